// What must compile, and the types that must come out.

import type { Result } from "../../src/index";
import * as node from "../../src/node/index";
import { useEntity, useSuspenseQuery } from "../../src/react";
import * as svelte from "../../src/svelte";
import { db, expect, schema, type Equal, type RowOf } from "./schema";

type Flat<T> = { [K in keyof T]: T[K] };

const plain = db.issues.where({ open: true }).orderBy("created", "desc").limit(50);
type Plain = Flat<RowOf<typeof plain>>;
expect<Equal<Plain["title"], string>>();
expect<Equal<Plain["open"], boolean>>();
expect<Equal<Plain["created"], Date>>();
expect<Equal<Plain["meta"], { readonly votes: number } | undefined>>();
expect<Equal<Plain["author"], string | null>>();
expect<Equal<Plain["labels"], readonly string[]>>();
expect<Equal<Plain["id"], string>>();

const included = db.issues.include({ author: true, labels: { orderBy: "name", limit: 5 }, comments: true });
type Included = RowOf<typeof included>;
expect<Equal<NonNullable<Included["author"]>["name"], string>>();
expect<Equal<null extends Included["author"] ? true : false, true>>();
expect<Equal<Included["labels"][number]["color"], string>>();
expect<Equal<Included["comments"][number]["issue"], string | null>>();
expect<Equal<Included["title"], string>>();

const nested = db.users.include({ issues: { include: { labels: true, author: true } } });
type Nested = RowOf<typeof nested>;
expect<Equal<Nested["issues"][number]["labels"][number]["name"], string>>();

const some = db.issues.select("title", "open");
expect<Equal<keyof RowOf<typeof some>, "id" | "title" | "open">>();

db.issues.where({ author: { name: "Ann" }, labels: { name: { startsWith: "b" } } });
db.issues.where({ author: "u1", labels: { has: { id: "l1" } }, created: { gt: new Date() } });
db.issues.where({ author: null, comments: { text: { contains: "x" } } });
db.issues.where({ or: [{ open: false }, { not: { author: { age: { gte: 3 } } } }], id: { in: ["a"] } });

const write = db.tx((tx) => {
  const author = tx.users.insert({ name: "Ann" });
  const issue = tx.issues.insert({ title: "x", created: new Date(), author, labels: [{ id: "l1" }] });
  tx.issues.update(issue, { open: false, meta: null, labels: { add: ["l2"], remove: ["l1"] } });
  tx.issues.delete(issue);
  return issue;
});
expect<Equal<typeof write.value, string>>();
expect<Equal<typeof write.confirmed, Promise<void>>>();

const room = db.room("doc", "d1", { presence: { since: new Date() } });
expect<Equal<typeof room.state.status.mode, string | undefined>>();
expect<Equal<(typeof room.state.peers)[number]["presence"]["cursor"], { readonly x: number } | undefined>>();
room.set({ cursor: { x: 1 } });
room.setStatus({ mode: null });
room.send("ping", { count: 1 });
room.on("ping", ({ data }) => {
  expect<Equal<typeof data.count, number | undefined>>();
});
db.room("lobby", "l1").listen(() => undefined);

const followed = db.follow(plain);
expect<
  Equal<
    typeof followed.result extends Result<infer R> ? (R extends { title: string } ? true : false) : false,
    true
  >
>();
expect<
  Equal<Awaited<ReturnType<typeof db.query<"labels", RowOf<typeof db.labels>>>>[number]["name"], string>
>();

expect<Equal<RowOf<ReturnType<typeof plain.after>>["title"], string>>();
plain.after({ id: "i1", created: new Date() });

const entity = useEntity(db, included, "i1");
expect<Equal<NonNullable<typeof entity.data>["title"], string>>();
const suspended = useSuspenseQuery(db, plain, { synced: true });
expect<Equal<typeof suspended.isLoaded, true>>();
expect<Equal<(typeof suspended.data)[number]["created"], Date>>();

const stored = svelte.useQuery(db, () => plain);
expect<Equal<(typeof stored.data)[number]["title"], string>>();
stored.subscribe(({ data }) => data[0]?.labels);
const peers = svelte.usePresence(room, { select: ({ cursor }) => cursor?.x });
expect<Equal<(typeof peers.current)[number]["presence"], number | undefined>>();

const served = node.preload({ schema, tenant: "demo", endpoints: [], auth: { key: "k" } }, [plain, db.users]);
expect<Equal<Awaited<typeof served>["text"], string>>();
void served.then((loaded) => loaded.db.issues.where({ open: true }));
const inNode = node.createClient({
  schema,
  tenant: "demo",
  endpoints: [],
  auth: { key: "k" },
  directory: "d",
});
expect<Equal<ReturnType<typeof inNode.close>, Promise<void>>>();
