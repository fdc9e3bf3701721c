// The schema of the to-do list, and one client for the page.

import { createClient, defineSchema, t } from "@halcyon/client";
import { access } from "../shell/session";

const schema = defineSchema({
  todos: t.entity({
    text: t.string(),
    done: t.boolean().default(false),
    made: t.date(),
  }),
});

export const db = createClient({
  schema,
  ...access(),
  name: "todo",
  onRefused: (error) => {
    alert(`A change was refused and is undone: ${error.message}`);
  },
});
