// Life of an app that is out in the world: a captive portal, a machine that sleeps, a way that dies in silence, a clock
// that is wrong, and tabs that hold an older version of the app.
//
//   HALCYON=target/release/halcyon node test/browser/network.mjs

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { binary, browser, freePorts, later, run, test, WAIT_MS } from "./harness.mjs";
import { processes } from "./cluster.mjs";
import { serve } from "./server.mjs";
import { wayTo } from "./way.mjs";

const port = await freePorts(2);
const nodes = await processes(binary, port, ["eu-west"]);
later(nodes.stop);
const pages = await serve();
later(pages.stop);
await nodes.halcyon("tenant", "set", "app", "allowed_origins", pages.origin);
const way = await wayTo(nodes.node(0), port + 1);
later(way.stop);

async function open(context, { node = way.address, ...more } = {}) {
  const page = await context.newPage();
  const query = new URLSearchParams({ tenant: "app", key: nodes.key, node, ...more });
  await page.goto(`${pages.origin}/?${query}`);
  await page.waitForFunction(() => "test" in window);
  return page;
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { timeout: WAIT_MS });
const is = (page, status) => until(page, (status) => window.test.status().result === status, status);
const shows = (page, title) => until(page, (title) => window.test.titles().includes(title), title);
const idle = (page) => until(page, () => window.test.status().waiting === 0);
const errors = (page) => page.evaluate(() => window.test.errors);
const once = async (page) => {
  const all = await page.evaluate(() => window.test.titles());
  assert.deepEqual([...new Set(all)], all, "nothing twice");
};
/** Somebody at home, whose way is free. */
const atHome = () => browser().then((context) => open(context, { node: nodes.node(0), name: "home" }));

test("behind a captive portal the app works, says so, and goes on when the portal lets it through", async () => {
  const home = await atHome();
  await is(home, "synced");
  way.be("portal");
  const page = await open(await browser());
  await is(page, "offline");
  await page.evaluate(() => window.test.insert("behind the portal"));
  await shows(page, "behind the portal");
  const { waiting, error } = await page.evaluate(() => window.test.status());
  assert.deepEqual([waiting, error.code], [1, "UNREACHABLE"]);
  assert.match(error.message, /not a Halcyon node/);
  way.be("open");
  await idle(page);
  await is(page, "synced");
  await shows(home, "behind the portal");
  // One that comes up in the middle of a session, as in a train that changes its network.
  way.be("portal", { cut: true });
  await is(page, "offline");
  await page.evaluate(() => window.test.insert("behind another portal"));
  await home.evaluate(() => window.test.confirmed("meanwhile at home"));
  way.be("open");
  await idle(page);
  for (const one of [page, home])
    for (const title of ["behind another portal", "meanwhile at home"]) await shows(one, title);
  await Promise.all([page, home].map(once));
  assert.deepEqual(await errors(page), []);
  await Promise.all([page.context().close(), home.context().close()]);
});

test("a way that dies without a word is noticed, and another one is made", async () => {
  const home = await atHome();
  const page = await open(await browser());
  await Promise.all([is(page, "synced"), is(home, "synced")]);
  way.be("dead");
  await home.evaluate(() => window.test.confirmed("while it was dead"));
  await page.evaluate(() => window.test.insert("into the dead way"));
  // What is connected stays so, and silent. Only new connections come through.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const before = await page.evaluate(() => window.test.titles());
  assert.ok(!before.includes("while it was dead"));
  await page.waitForFunction(() => window.test.status().result !== "synced", undefined, { timeout: WAIT_MS });
  way.be("open");
  await shows(page, "while it was dead");
  await shows(home, "into the dead way");
  await idle(page);
  await Promise.all([page, home].map(once));
  await Promise.all([page.context().close(), home.context().close()]);
});

test("a device whose clock is minutes ahead goes by the node's from its first push on", async () => {
  const home = await atHome();
  const page = await open(await browser(), { breaks: "ahead=300000" });
  await Promise.all([is(page, "synced"), is(home, "synced")]);
  // Of a set that was pushed with a time to come, and then not heard of, nobody knows who has taken it: it would wait
  // until that time has come, and all behind it.
  way.lose("Sync/Push");
  await page.evaluate(() => window.test.insert("from the future"));
  await page.evaluate(() => window.test.confirmed("right behind it"));
  for (const title of ["from the future", "right behind it"]) await shows(home, title);
  await Promise.all([page, home].map(once));
  assert.deepEqual(await errors(page), []);
  await Promise.all([page.context().close(), home.context().close()]);
});

/** The processes of the browser that was started with a profile. */
async function processesOf(profile) {
  const all = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const words = await Promise.all(all.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
  return all.filter((_, at) => words[at]?.includes(profile)).map(Number);
}

test("a machine that slept goes on where the others are by then", async () => {
  const home = await atHome();
  const context = await browser();
  const page = await open(context);
  await Promise.all([is(page, "synced"), is(home, "synced")]);
  await page.evaluate(() => window.test.online(false));
  await page.evaluate(() => window.test.insert("before it slept"));
  await page.evaluate(() => window.test.online(true));
  await is(page, "synced");
  const asleep = await processesOf(context.profile);
  assert.ok(asleep.length > 1, "the browser's processes");
  for (const pid of asleep) process.kill(pid, "SIGSTOP");
  try {
    await home.evaluate(() => window.test.confirmed("while it slept"));
    // Longer than a session lives without its stream, as the node hears of it: its connections break off.
    way.be("open", { cut: true });
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    await home.evaluate(() => window.test.confirmed("just before it woke"));
  } finally {
    for (const pid of asleep) process.kill(pid, "SIGCONT");
  }
  for (const title of ["while it slept", "just before it woke"]) await shows(page, title);
  await page.evaluate(() => window.test.confirmed("after it woke"));
  for (const title of ["before it slept", "after it woke"]) await shows(home, title);
  await is(page, "synced");
  await Promise.all([page, home].map(once));
  assert.deepEqual(await errors(page), []);
  await Promise.all([context.close(), home.context().close()]);
});

test("a newer version of the app opens beside an old tab: each reads and writes by its own schema", async () => {
  const context = await browser();
  const old = await open(context, { node: nodes.node(0), name: "versions" });
  await is(old, "synced");
  const first = await old.evaluate(() => window.test.insert("made by the old", { at: 7 }));
  // It has a field more, another type of an old field, and a type of entities that the old one does not know.
  const next = await open(context, { node: nodes.node(0), name: "versions", schema: "2" });
  await shows(next, "made by the old");
  const rowOf = (page, id) =>
    page.evaluate((id) => window.test.result().data.find((todo) => todo.id === id), id);
  assert.deepEqual(await rowOf(next, first).then(({ priority, at }) => [priority, at]), [3, undefined]);
  assert.ok(await next.evaluate((id) => window.test.invalid.includes(`todo.at of ${id}`), first));
  const second = await next.evaluate(() =>
    window.test.insert("made by the new", { priority: 1, at: new Date(5) }),
  );
  await shows(old, "made by the new");
  const seen = await rowOf(old, second);
  assert.deepEqual([seen.at, "priority" in seen], [undefined, false]);
  // What the old one does not know stays as it is when it writes beside it.
  await old.evaluate((id) => window.test.update(id, { title: "changed by the old", done: true }), second);
  await shows(next, "changed by the old");
  const changed = await rowOf(next, second);
  assert.deepEqual([changed.priority, changed.done, changed.at?.getTime()], [1, true, 5]);
  await next.evaluate(() => window.test.db.tag.insert({ name: "only here" }).confirmed);
  await Promise.all([idle(old), idle(next)]);
  assert.deepEqual([await errors(old), await errors(next)], [[], []]);
  // The old tab is the last to go, and the new version finds all of it on the disk.
  await next.close();
  await old.evaluate(() => window.test.insert("made by the old again"));
  await old.close();
  const again = await open(context, { node: "http://127.0.0.1:9", name: "versions", schema: "2" });
  for (const title of ["made by the old", "changed by the old", "made by the old again"])
    await shows(again, title);
  assert.equal((await rowOf(again, second)).priority, 1);
  await context.close();
});

await run();
