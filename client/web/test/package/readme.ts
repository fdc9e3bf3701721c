// What the README's shorter blocks go on from: the client of its first app, grown to an issue tracker.

import { createClient, defineSchema, t } from "@halcyon/client";

const schema = defineSchema({
  users: t.entity({ name: t.string() }),
  labels: t.entity({ name: t.string() }),
  issues: t.entity({
    title: t.string(),
    open: t.boolean().default(true),
    created: t.date(),
    author: t.ref("users", { inverse: "issues" }),
    labels: t.refMany("labels", { inverse: "issues" }),
  }),
});

export const db = createClient({ schema, tenant: "demo", endpoints: [], auth: { key: "hk_" } });

/** Blocks with JSX have it by their compiler's setting. */
export const React = undefined;
