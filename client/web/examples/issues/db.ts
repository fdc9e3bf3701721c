// The schema of the issue tracker that `halcyon dev` fills, and one client for the page.

import { createClient, defineSchema, t } from "@halcyon/client";
import { access } from "../shell/session";

/** Where somebody points: an element that all see, by its name, and a place in it from 0 to 1. */
export interface Pointer {
  readonly [part: string]: string | number;
  readonly at: string;
  readonly x: number;
  readonly y: number;
}

const entities = {
  user: t.entity({ name: t.string(), login: t.string() }),
  label: t.entity({ name: t.string(), color: t.string().default("#888888") }),
  issue: t.entity({
    number: t.number().default(0),
    title: t.string(),
    description: t.string().default(""),
    open: t.boolean().default(true),
    status: t.string().optional(),
    priority: t.string().optional(),
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
};
const rooms = {
  /** Everybody who has the tracker open. Nothing of it is kept. */
  tracker: {
    presence: { user: t.string(), name: t.string(), issue: t.string(), pointer: t.json<Pointer | null>() },
  },
};
const schema = defineSchema(entities, { rooms });

export const db = createClient({
  schema,
  ...access(),
  name: "issues",
  onRefused: (error) => {
    alert(`A change was refused and is undone: ${error.message}`);
  },
});
