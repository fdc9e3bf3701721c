// The schema of the type tests, and the two helpers that state what a type is.

import { createClient, defineSchema, t } from "../../src/index";

const entities = {
  users: t.entity({ name: t.string(), age: t.number().optional() }),
  labels: t.entity({ name: t.string(), color: t.string().default("grey") }),
  issues: t.entity({
    title: t.string(),
    open: t.boolean().default(true),
    created: t.date(),
    meta: t.json<{ readonly votes: number }>().optional(),
    author: t.ref("users", { inverse: "issues" }),
    labels: t.refMany("labels", { inverse: "issues" }),
  }),
  comments: t.entity({ text: t.string(), issue: t.ref("issues", { inverse: "comments" }) }),
};

export const schema = defineSchema(entities, {
  rooms: {
    doc: {
      presence: { cursor: t.json<{ readonly x: number }>(), since: t.date() },
      status: { mode: t.string() },
      events: { ping: { count: t.number() } },
    },
    lobby: {},
  },
});

export const db = createClient({ schema, tenant: "demo", endpoints: [], auth: { key: "k" } });

export type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

export function expect<T extends true>(): T | undefined {
  return undefined;
}

export type RowOf<Q> = Q extends { readonly row?: infer R } ? NonNullable<R> : never;
