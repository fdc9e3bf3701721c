// What must not compile. Each error is expected; one that goes missing is an error itself.

import { defineSchema, t } from "../../src/index";
import * as node from "../../src/node/index";
import { useSuspenseQuery } from "../../src/react";
import * as svelte from "../../src/svelte";
import { db, schema } from "./schema";

// @ts-expect-error no such entity
db.posts;
// @ts-expect-error no such field
db.issues.where({ titel: "x" });
// @ts-expect-error a title is text
db.issues.where({ title: 3 });
// @ts-expect-error a number has no prefix
db.users.where({ age: { startsWith: "1" } });
// @ts-expect-error the author has no such field
db.issues.where({ author: { nam: "Ann" } });
// @ts-expect-error no such order
db.issues.orderBy("titel");
// @ts-expect-error a title leads nowhere
db.issues.include({ title: true });
// @ts-expect-error labels have no title to go by
db.issues.include({ labels: { orderBy: "title" } });
// @ts-expect-error no such field to select
db.issues.select("titel");
// @ts-expect-error a title is needed
db.issues.insert({ created: new Date() });
// @ts-expect-error a date is no text
db.issues.insert({ title: "x", created: "2026-01-01" });
// @ts-expect-error a title cannot be unset
db.issues.update("i1", { title: null });
// @ts-expect-error no such field to write
db.issues.update("i1", { titel: "x" });
// @ts-expect-error no such kind of room
db.room("docs", "d1");
// @ts-expect-error a cursor has a number
db.room("doc", "d1").set({ cursor: { x: "1" } });
// @ts-expect-error no such event
db.room("doc", "d1").send("pong", { count: 1 });
// @ts-expect-error a count is a number
db.room("doc", "d1").send("ping", { count: "1" });
// @ts-expect-error no such status
db.room("doc", "d1").setStatus({ mood: "x" });
// @ts-expect-error a default of another type
defineSchema({ a: t.entity({ b: t.string().default(3) }) });
// @ts-expect-error a place in a list has an id
db.issues.orderBy("created").after({ created: new Date() });
// @ts-expect-error Node has no IndexedDB
node.createClient({ schema, tenant: "demo", endpoints: [], auth: { key: "k" }, persistence: "indexeddb" });
// @ts-expect-error no such field to select
svelte.usePresence(db.room("doc", "d1"), { select: ({ curser }) => curser });
// @ts-expect-error labels have no title
useSuspenseQuery(db, db.labels).data[0]?.title;
