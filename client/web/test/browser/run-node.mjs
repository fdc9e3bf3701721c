// The package in Node against real nodes, and pages that a server began. Called by run.mjs.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, defineSchema, preload, t } from "../../dist/node.js";

const MANY = 300;
/** A port at which nobody listens. */
const NOWHERE = 5;

/** As the pages have it: one schema, one text for each query. */
const schema = defineSchema(
  {
    user: t.entity({ name: t.string() }),
    todo: t.entity({
      title: t.string(),
      done: t.boolean().default(false),
      at: t.number().default(0),
      owner: t.ref("user", { inverse: "todos" }),
    }),
  },
  { rooms: { doc: { status: { step: t.number() }, events: { ping: { at: t.number() } } } } },
);

async function eventually(is, what) {
  for (const from = Date.now(); !is(); await new Promise((resolve) => setTimeout(resolve, 20)))
    assert.ok(Date.now() - from < 20_000, what);
}

/** Bytes that come in while something runs. */
async function received(run) {
  const { fetch } = globalThis;
  let bytes = 0;
  globalThis.fetch = async (...args) => {
    const response = await fetch(...args);
    const count = new TransformStream({
      transform(chunk, controller) {
        bytes += chunk.length;
        controller.enqueue(chunk);
      },
    });
    return new Response(response.body?.pipeThrough(count), response);
  };
  try {
    await run();
    return bytes;
  } finally {
    globalThis.fetch = fetch;
  }
}

export function nodeTests({ test, browser, open, until, nodes, key }) {
  const options = (region) => ({ schema, tenant: "demo", endpoints: [nodes.node(region)], auth: { key } });
  const titles = (rows) => rows.map((row) => row.title);

  test("two clients in Node, in two regions: each sees what the other writes, and files outlive a process", async () => {
    const directory = await mkdtemp(join(tmpdir(), "halcyon-web-node-"));
    const [ann, bob] = [createClient({ ...options(0), directory }), createClient(options(2))];
    const mine = (db) => db.todo.where({ title: { startsWith: "node " } }).orderBy("title");
    const seen = new Promise((resolve) => {
      const followed = bob.follow(mine(bob));
      followed.listen(() => {
        if (followed.result.data.length === 2) resolve(titles(followed.result.data));
      });
    });
    await ann.todo.insert({ title: "node a" }).confirmed;
    await bob.todo.insert({ title: "node b" }).confirmed;
    assert.deepEqual(await seen, ["node a", "node b"]);
    const followed = ann.follow(mine(ann));
    await new Promise((resolve) => {
      const look = () => followed.result.data.length === 2 && resolve(undefined);
      followed.listen(look);
      look();
    });
    await ann.close();
    await bob.close();
    const again = createClient({ ...options(NOWHERE), directory, onFailed: (error) => assert.fail(error) });
    assert.deepEqual(titles(await again.query(mine(again))), ["node a", "node b"]);
    await again.close();
    await rm(directory, { recursive: true });
  });

  test("a key that no node knows is an error to who asks a node, until another signs in", async () => {
    const db = createClient({ ...options(0), auth: { key: "hk_wrong" } });
    const asked = db.query(db.todo, { synced: true });
    await assert.rejects(asked, { code: "UNAUTHENTICATED" });
    const write = db.todo.insert({ title: "signed in later" });
    db.signIn({ key });
    await write.confirmed;
    assert.ok(titles(await db.query(db.todo, { synced: true })).includes("signed in later"));
    await db.close();
    await assert.rejects(preload({ ...options(0), auth: { key: "hk_wrong" } }, [db.todo]), {
      code: "UNAUTHENTICATED",
    });
  });

  test("who signs in with another key goes on at once", async () => {
    const second = JSON.parse(await nodes.halcyon("--json", "tenant", "key", "create", "demo"));
    const db = createClient(options(0));
    await db.query(db.todo, { synced: true });
    db.signIn({ key: second.key });
    await db.todo.insert({ title: "by another key" }).confirmed;
    assert.ok(titles(await db.query(db.todo, { synced: true })).includes("by another key"));
    await eventually(() => db.connection.state === "synced", "a session of its own");
    await db.close();
  });

  test("one query after another may be asked, more than a session follows at once", async () => {
    const db = createClient(options(0));
    // Those that are followed and those that linger are fewer than a session's 256.
    for (let at = 0; at < 180; at += 1) db.follow(db.todo.where({ at: -1000 - at })).listen(() => undefined);
    for (let at = 0; at < 100; at += 1)
      assert.deepEqual(await db.query(db.todo.where({ at: -1 - at }), { synced: true }), []);
    await db.close();
  });

  test("what one client says in a room comes in its order, and the last status holds", async () => {
    const [ann, bob] = [createClient(options(0)), createClient(options(2))];
    const [hers, his] = [ann, bob].map((db) => db.room("doc", "order"));
    const heard = [];
    const stops = [hers.listen(() => undefined), his.listen(() => undefined)];
    stops.push(his.on("ping", ({ data }) => heard.push(data.at)));
    await eventually(() => hers.state.peers.length === 1 && his.state.peers.length === 1, "both are there");
    const all = Array.from({ length: 20 }, (_, at) => at);
    for (const at of all) {
      hers.setStatus({ step: at });
      hers.send("ping", { at });
    }
    await eventually(() => heard.length === all.length, "all is heard");
    assert.deepEqual(heard, all);
    await eventually(() => his.state.status.step === 19, "the last status");
    // Too many at once are not kept, and whoever says less later is heard.
    for (let at = 0; at < 400; at += 1) hers.send("ping", { at });
    await eventually(() => hers.state.error?.code === "BUSY", "too many at once");
    await eventually(() => {
      hers.send("ping", { at: -1 });
      return hers.state.error === undefined;
    }, "it is over");
    await eventually(() => heard.at(-1) === -1, "the last is heard");
    for (const stop of stops) stop();
    await Promise.all([ann.close(), bob.close()]);
  });

  test("what a server preloaded shows at once, also with nobody to ask, and is not loaded again", async () => {
    const writer = createClient(options(0));
    await writer.tx((tx) => {
      for (let at = 0; at < MANY; at += 1)
        tx.todo.insert({ title: `many ${at}: ${"x".repeat(100)}`, at: 1e9 });
    }).confirmed;
    const all = writer.todo.orderBy("title");
    // Who comes from elsewhere is told of what the node has got round to: now it has.
    assert.ok((await writer.query(all, { synced: true })).length >= MANY);
    await writer.close();
    const top = writer.todo.orderBy("at", "desc").limit(50).include({ owner: true });
    const loaded = await preload(options(0), [all, top]);
    assert.ok(loaded.db.follow(all).result.data.length >= MANY);
    assert.equal(loaded.db.follow(top).result.status, "synced");
    assert.ok(!loaded.text.includes("<"));

    const load = (more) => async () => {
      const db = createClient({ ...options(0), ...more });
      assert.equal(db.follow(all).result.isLoaded, "preloaded" in more);
      assert.ok((await db.query(all, { synced: true })).length >= MANY);
      await db.close();
    };
    const [whole, rest] = [await received(load({})), await received(load({ preloaded: loaded.text }))];
    assert.ok(rest * 4 < whole, `${rest} bytes after preloading, ${whole} without`);

    const context = await browser();
    await context.addInitScript((text) => {
      window.preloaded = text;
    }, loaded.text);
    const page = await open(context, NOWHERE, { name: "preloaded" });
    const shown = () => window.test.result().data.length;
    const before = await page.evaluate(shown);
    assert.ok(before >= MANY);
    await page.evaluate(() => window.test.insert("many and one"));
    await until(page, (count) => window.test.result().data.length === count, before + 1);
    await until(page, () => window.test.status().result === "offline");
    assert.equal(await page.evaluate(shown), before + 1);
    assert.equal(await page.evaluate(() => window.test.top().data.length), 50);
    await context.close();
  });
}
