// The client in Node, with nobody to talk to: the engine in this process, in memory and in files.

import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { bundled, until, wasm } from "./bundle.mjs";

const { createClient, defineSchema, t, FileDisk, unpackRecords } = await bundled(
  `export * from "./node/index"; export { FileDisk } from "./node/file";
   export { unpackRecords } from "./worker/engine";`,
);
const schema = defineSchema({
  todos: t.entity({
    text: t.string(),
    rank: t.number().default(0),
    done: t.boolean().optional(),
    after: t.refMany("todos", { inverse: "before" }),
  }),
});
const dirs = [];
after(() => Promise.all(dirs.map((dir) => rm(dir, { recursive: true, force: true }))));

async function place() {
  const dir = await mkdtemp(join(tmpdir(), "halcyon-node-"));
  dirs.push(dir);
  return dir;
}

const open = (more = {}) =>
  createClient({ schema, tenant: "app", endpoints: [], auth: { key: "k" }, wasm, ...more });
const texts = (rows) => rows.map((row) => row.text);

test("a client in memory answers what was written, and a closed one takes nothing", async () => {
  const db = open();
  await db.todos.insert({ text: "b", rank: 2 }).kept;
  await db.todos.insert({ text: "a", rank: 1 }).kept;
  assert.deepEqual(texts(await db.query(db.todos.orderBy("rank"))), ["a", "b"]);
  await db.close();
  assert.throws(() => db.todos.insert({ text: "c" }), { code: "CLOSED" });
});

test("files keep what waits for a node, and one process has them at a time", async () => {
  const directory = await place();
  const db = open({ directory });
  await db.todos.insert({ text: "kept" }).kept;
  const errors = [];
  const other = open({ directory, onFailed: (error) => errors.push(error.code) });
  await until(() => errors.length > 0, "the lock");
  assert.deepEqual(errors, ["STORAGE_FAILED"]);
  await Promise.all([db.close(), other.close()]);
  const again = open({ directory });
  const waits = again.query(again.todos);
  assert.deepEqual(texts(await waits), ["kept"]);
  await until(() => again.connection.waiting === 1, "the outbox");
  await again.close();
});

test("where local data cannot be kept, a write says so and goes on", async () => {
  const directory = await place();
  const db = open({ directory });
  await db.todos.insert({ text: "kept" }).kept;
  const other = open({ directory });
  const write = other.todos.insert({ text: "in memory" });
  await assert.rejects(write.kept, { code: "STORAGE_FAILED" });
  assert.deepEqual(texts(await other.query(other.todos)), ["in memory"]);
  await Promise.all([db.close(), other.close()]);
});

test("what is cleared is gone, is called so, and does not come back; what is written then stays", async () => {
  const directory = await place();
  const db = open({ directory });
  db.setOnline(false);
  const before = db.todos.insert({ text: "before" });
  await before.kept;
  const last = db.todos.insert({ text: "last" });
  const cleared = db.clear();
  const after = db.todos.insert({ text: "after" });
  await cleared;
  for (const write of [before, last]) {
    await assert.rejects(write.confirmed, { code: "CLEARED" });
    assert.equal(write.status, "refused");
  }
  await after.kept;
  assert.deepEqual(texts(await db.query(db.todos)), ["after"]);
  await until(() => db.connection.waiting === 1, "one write alone");
  await db.clear();
  await db.close();
  // Its files are free at once.
  const again = open({ directory, onFailed: (error) => assert.fail(error) });
  assert.deepEqual(await again.query(again.todos), []);
  await again.close();
});

test("without an engine nobody waits for this device's disk", async () => {
  const failed = [];
  const onFailed = (error) => failed.push(error);
  const db = open({ wasm: new URL("file:///nowhere/halcyon.wasm"), onFailed });
  const [write, cleared] = [db.todos.insert({ text: "a" }), db.clear()];
  await assert.rejects(cleared, (error) => error === failed[0]);
  await assert.rejects(write.kept, (error) => error === failed[0]);
  await assert.rejects(db.todos.insert({ text: "b" }).kept, (error) => error === failed[0]);
  await assert.rejects(db.clear(), (error) => error === failed[0]);
  await db.close();
  await assert.rejects(write.confirmed, { code: "CLOSED" });
});

test("a result nobody listens to is there for whoever comes back, however many others are followed", async () => {
  const db = open();
  await db.todos.insert({ text: "a" }).kept;
  const others = Array.from({ length: 70 }, (_, at) => db.follow(db.todos.where({ rank: { gt: at } })));
  for (const other of others) other.listen(() => undefined);
  await db.query(db.todos);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(db.follow(db.todos).result.isLoaded, true);
  // Of those that are only looked at the oldest goes.
  for (let at = 0; at < 70; at += 1) void db.follow(db.todos.where({ rank: -1 - at })).result;
  assert.equal(db.follow(db.todos).result.isLoaded, false);
  await db.close();
});

test("a client that is closed leaves nobody waiting", async () => {
  const db = open();
  const write = db.todos.insert({ text: "a" });
  const asked = assert.rejects(db.query(db.todos, { synced: true }), { code: "CLOSED" });
  await db.close();
  await assert.rejects(write.confirmed, { code: "CLOSED" });
  assert.equal(write.status, "kept");
  await asked;
});

test("among no values there is none", async () => {
  const db = open();
  await db.todos.insert({ id: "a", text: "a" }).kept;
  await db.todos.insert({ id: "b", text: "b" }).kept;
  await db.todos.insert({ id: "-", text: "c", after: ["a", "b", "-"] }).kept;
  for (const which of [{ after: { id: { in: [] } } }, { before: { id: { in: [] } } }])
    assert.deepEqual(texts(await db.query(db.todos.where(which))), []);
  assert.deepEqual(texts(await db.query(db.todos.where({ text: { in: [] } }))), []);
  assert.deepEqual(texts(await db.query(db.todos.where({ id: { in: [] } }))), []);
  assert.deepEqual(texts(await db.query(db.todos.where({ not: { text: { in: [] } } }))).sort(), [
    "a",
    "b",
    "c",
  ]);
  await db.close();
});

test("two references do not share the name of their inverse", () => {
  const ref = () => t.ref("users", { inverse: "issues" });
  const entities = {
    users: t.entity({ name: t.string() }),
    issues: t.entity({ author: ref(), owner: ref() }),
  };
  assert.throws(() => defineSchema(entities), {
    code: "INVALID_SCHEMA",
    message: /issues.author.*issues.owner/,
  });
});

test("rows behind a row are the next page, also where the order's field was never written", async () => {
  const db = open();
  for (const [text, done] of [["a"], ["b", false], ["c", true], ["d"], ["e", true]]) {
    await db.todos.insert({ text, ...(done === undefined ? {} : { done }) }).kept;
  }
  const list = db.todos.orderBy("done").orderBy("text", "desc").limit(2);
  const pages = [];
  let query = list;
  for (;;) {
    const followed = db.follow(query);
    const stop = followed.listen(() => undefined);
    await until(() => followed.result.isLoaded, "a page");
    const { data, hasMore } = followed.result;
    pages.push(texts(data));
    if (!hasMore) break;
    query = list.after(data.at(-1));
    stop();
  }
  assert.deepEqual(pages, [["d", "a"], ["b", "e"], ["c"]]);
  // A row of one's own making has a place too.
  const behind = await db.query(list.after({ id: "x", done: true, text: "d" }));
  assert.deepEqual(texts(behind), ["c"]);
  assert.throws(() => list.after({ id: "x", done: true }), { code: "INVALID_QUERY" });
  await db.close();
});

const record = (store, key, ...bytes) => ({
  store,
  key: new Uint8Array([key]),
  bytes: bytes.length > 0 ? new Uint8Array(bytes) : undefined,
});
const read = async (disk) => {
  const records = (await disk.readAll()).packed.flatMap(unpackRecords);
  return Object.fromEntries(records.map(({ store, key, bytes }) => [store + key[0], [...bytes]]));
};

test("a log gives back what was kept; a step that was cut off never was", async () => {
  const directory = join(await place(), "disk");
  const file = join(directory, "log");
  const first = await FileDisk.open(directory);
  await first.keep([record("f", 1, 1, 2), record("f", 2, 3)]);
  await Promise.all([first.keep([record("f", 1)]), first.keep([record("s", 1, 9)])]);
  await first.close();
  const whole = await readFile(file);
  // As a crash leaves it: the last step without its end, and then with an end that is not its own.
  for (const spoil of [whole.subarray(0, -1), Buffer.concat([whole.subarray(0, -1), Buffer.of(7)])]) {
    await writeFile(file, spoil);
    const disk = await FileDisk.open(directory);
    assert.deepEqual(await read(disk), { f2: [3] });
    await disk.keep([record("n", 1, 5)]);
    await disk.close();
    const again = await FileDisk.open(directory);
    assert.deepEqual(await read(again), { f2: [3], n1: [5] });
    await again.close();
  }
  // A process that is gone holds nothing.
  await writeFile(join(directory, "lock"), "999999999");
  await appendFile(file, Buffer.of(0, 0, 0));
  const last = await FileDisk.open(directory);
  assert.deepEqual(await read(last), { f2: [3], n1: [5] });
  await last.close();
});
