// Two browsers in two regions against real nodes.
//
//   HALCYON=target/release/halcyon node test/browser/run.mjs [--worker dedicated]

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { cluster } from "./cluster.mjs";
import { engineTests } from "./engine.mjs";
import { freePorts } from "./harness.mjs";
import { nodeTests } from "./run-node.mjs";
import { serve } from "./server.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const binary = resolve(process.env.HALCYON ?? join(here, "../../../../target/release/halcyon"));
const worker = process.argv.includes("dedicated") ? "dedicated" : "auto";
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** Long, because the machine may be busy: what goes wrong does so for good. */
const WAIT_MS = 60_000;

const nodes = await cluster(binary, await freePorts(3));
const pages = await serve();
const profiles = [];
const key = (await readFile(nodes.key, "utf8")).trim();
await nodes.halcyon("tenant", "set", "demo", "allowed_origins", pages.origin);

async function browser() {
  const profile = await mkdtemp(join(tmpdir(), "halcyon-browser-"));
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS });
  context.setDefaultTimeout(WAIT_MS);
  profiles.push({ profile, context });
  return context;
}

async function open(context, region, more = {}) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`console: ${message.text()}`);
  });
  const query = new URLSearchParams({ tenant: "demo", key, worker, ...more });
  query.append("node", nodes.node(region));
  await page.goto(`${pages.origin}/?${query}`);
  await page.waitForFunction(() => "test" in window);
  return page;
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { timeout: WAIT_MS });
const state = (page, wanted) => until(page, (wanted) => window.test.status().result === wanted, wanted);
const titles = async (page, expected) => {
  await until(
    page,
    (expected) => JSON.stringify(window.test.titles()) === expected,
    JSON.stringify(expected),
  ).catch(async () => assert.deepEqual(await page.evaluate(() => window.test.titles()), expected));
};

const tests = [];
const test = (name, body) => tests.push({ name, body });
let ann, bob;

test("two browsers in two regions see each other's writes", async () => {
  ann = await open(await browser(), 0);
  bob = await open(await browser(), 2);
  await Promise.all([state(ann, "synced"), state(bob, "synced")]);
  await ann.evaluate(() =>
    window.test.insert("from ann", { owner: window.test.db.user.insert({ name: "Ann" }).value }),
  );
  await titles(bob, ["from ann"]);
  await bob.evaluate(() => window.test.insert("from bob"));
  await titles(ann, ["from ann", "from bob"]);
  const owners = await bob.evaluate(() => window.test.top().data.map((todo) => todo.owner?.name ?? null));
  assert.deepEqual(owners.sort(), ["Ann", null]);
});

test("a write is confirmed by the node", async () => {
  await ann.evaluate(() => window.test.confirmed("sure"));
  await titles(bob, ["from ann", "from bob", "sure"]);
});

test("rows that did not change stay the same objects", async () => {
  const same = await ann.evaluate(async () => {
    const before = window.test.result().data;
    await window.test.update(before[1].id, { done: true });
    while (!window.test.result().data[1].done) await new Promise((resolve) => setTimeout(resolve, 1));
    const after = window.test.result().data;
    return [before !== after, before[0] === after[0], before[1] !== after[1], before[2] === after[2]];
  });
  assert.deepEqual(same, [true, true, true, true]);
  await until(bob, () => window.test.result().data[1].done === true);
});

test("edits that two made offline merge: fields of one entity, the later write of one field, a delete over an update", async () => {
  const ids = await ann.evaluate(() => window.test.result().data.map((todo) => todo.id));
  await Promise.all([ann, bob].map((page) => page.evaluate(() => window.test.online(false))));
  await Promise.all([state(ann, "offline"), state(bob, "offline")]);
  await ann.evaluate(([first, second, third]) => {
    window.test.update(first, { title: "a by ann" });
    window.test.update(second, { at: 7 });
    return window.test.remove(third);
  }, ids);
  await bob.waitForTimeout(20);
  await bob.evaluate(([first, second, third]) => {
    window.test.update(first, { title: "a by bob" });
    window.test.update(second, { title: "b by bob" });
    return window.test.update(third, { title: "not to be seen" });
  }, ids);
  await titles(ann, ["a by ann", "from bob"]);
  await titles(bob, ["a by bob", "b by bob", "not to be seen"]);
  await Promise.all([ann, bob].map((page) => page.evaluate(() => window.test.online(true))));
  for (const page of [ann, bob]) {
    await titles(page, ["a by bob", "b by bob"]);
    assert.equal(await page.evaluate(() => window.test.result().data[1].at), 7);
  }
});

test("a reload offline shows the same data and keeps what waits", async () => {
  await ann.evaluate(() => window.test.online(false));
  await state(ann, "offline");
  await ann.evaluate(() => window.test.insert("c offline"));
  await titles(ann, ["a by bob", "b by bob", "c offline"]);
  const context = ann.context();
  // A port at which nobody listens: the page itself comes, as from a service worker, and no node does.
  await ann.close();
  ann = await open(context, 5);
  await titles(ann, ["a by bob", "b by bob", "c offline"]);
  assert.equal(await ann.evaluate(() => window.test.status().waiting), 1);
  assert.deepEqual(await bob.evaluate(() => window.test.titles()), ["a by bob", "b by bob"]);
  await ann.close();
  ann = await open(context, 1);
  await titles(bob, ["a by bob", "b by bob", "c offline"]);
  await until(ann, () => window.test.status().waiting === 0);
});

test("tabs of one browser share one engine, and the first to close takes nothing along", async () => {
  const second = await open(ann.context(), 1);
  await titles(second, ["a by bob", "b by bob", "c offline"]);
  await second.evaluate(() => window.test.insert("d in the second tab"));
  await titles(ann, ["a by bob", "b by bob", "c offline", "d in the second tab"]);
  await ann.close();
  ann = second;
  await ann.evaluate(() => window.test.insert("e after the first closed"));
  await titles(bob, ["a by bob", "b by bob", "c offline", "d in the second tab", "e after the first closed"]);
});

test("a wrong key is an error that the app can show, and the data stays", async () => {
  const context = await browser();
  const page = await open(context, 0, { key: "hk_wrong" });
  await until(page, () => window.test.status().state === "refused");
  const { error } = await page.evaluate(() => window.test.status());
  assert.equal(error.code, "UNAUTHENTICATED");
});

test("figures: a write to the own query, and to the other browser's", async () => {
  const own = [];
  const other = [];
  for (let at = 0; at < 50; at += 1) {
    own.push(await ann.evaluate((title) => window.test.ownWrite(title), `own ${at}`));
    const title = `zz ${at}`;
    const seen = bob.evaluate(
      (title) =>
        new Promise((resolve) => {
          const look = () => {
            if (window.test.titles().includes(title)) resolve(performance.timeOrigin + performance.now());
          };
          window.test.db.follow(window.test.db.todo.orderBy("title")).listen(look);
          look();
        }),
      title,
    );
    await ann.waitForTimeout(5);
    const from = await ann.evaluate((title) => {
      const from = performance.timeOrigin + performance.now();
      window.test.db.todo.insert({ title });
      return from;
    }, title);
    other.push((await seen) - from);
  }
  const at = (all, part) => all.sort((a, b) => a - b)[Math.floor(all.length * part)]?.toFixed(2);
  console.log(`  own query       p50 ${at(own, 0.5)} ms, p98 ${at(own, 0.98)} ms`);
  console.log(`  other region    p50 ${at(other, 0.5)} ms, p98 ${at(other, 0.98)} ms`);
});

engineTests({ test, browser, open, until, state, titles, origin: pages.origin });

// A part of them alone, while one is looked into.
const only = process.env.ONLY;
// What is of Node is the same in both modes of the worker.
if (worker === "auto") nodeTests({ test, browser, open, until, nodes, key });

let failed = 0;
for (const { name, body } of tests.filter(({ name }) => !only || name.includes(only))) {
  const from = performance.now();
  try {
    await body();
    console.log(`ok   ${name} (${Math.round(performance.now() - from)} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error instanceof Error ? error.stack : error}`);
    break;
  }
}
for (const { profile, context } of profiles) {
  await context.close().catch(() => undefined);
  await rm(profile, { recursive: true, force: true }).catch(() => undefined);
}
pages.stop();
await nodes.stop();
process.exit(failed);
