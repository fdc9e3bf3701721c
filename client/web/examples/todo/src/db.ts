// The schema, and one client for the page. Tenant, key and node come from the address: ?tenant=…&key=…&node=…

import { createClient, defineSchema, t } from "@halcyon/client";

export const schema = defineSchema({
  lists: t.entity({ name: t.string(), made: t.date() }),
  todos: t.entity({
    text: t.string(),
    done: t.boolean().default(false),
    made: t.date(),
    list: t.ref("lists", { inverse: "todos" }),
  }),
});

const address = new URL(location.href).searchParams;

export const settings = {
  tenant: address.get("tenant") ?? "demo",
  key: address.get("key") ?? "",
  nodes: address.getAll("node"),
};

export const db = createClient({
  schema,
  tenant: settings.tenant,
  endpoints: settings.nodes.length > 0 ? settings.nodes : ["http://127.0.0.1:7700"],
  auth: { key: settings.key },
  name: address.get("name") ?? "todo",
  onRefused: (error) => {
    alert(`A change was refused and is undone: ${error.message}`);
  },
});
