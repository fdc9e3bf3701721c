// The schema of the issue tracker that `halcyon dev` fills, and one client for the page.

import { createClient, defineSchema, t } from "@halcyon/client";

const schema = defineSchema({
  user: t.entity({ name: t.string(), login: t.string() }),
  label: t.entity({ name: t.string(), color: t.string().default("#888888") }),
  issue: t.entity({
    number: t.number().default(0),
    title: t.string(),
    description: t.string().default(""),
    open: t.boolean().default(true),
    created: t.date(),
    modified: t.date().optional(),
    creator: t.ref("user", { inverse: "created" }),
    assignee: t.ref("user", { inverse: "assigned" }),
    labels: t.refMany("label", { inverse: "issues" }),
  }),
  comment: t.entity({
    body: t.string(),
    created: t.date(),
    author: t.ref("user", { inverse: "comments" }),
    issue: t.ref("issue", { inverse: "comments" }),
  }),
});

const address = new URL(location.href).searchParams;
const nodes = address.getAll("node");

export const key = address.get("key") ?? "";

export const db = createClient({
  schema,
  tenant: address.get("tenant") ?? "demo",
  endpoints: nodes.length > 0 ? nodes : ["http://127.0.0.1:7700"],
  auth: { key },
  name: address.get("name") ?? "issues",
  onRefused: (error) => {
    alert(`A change was refused and is undone: ${error.message}`);
  },
});
