// What goes wrong in a life: a node dies under a tab, ten tabs are open, a tenant is large.
//
//   HALCYON=target/release/halcyon node test/browser/failures.mjs

import assert from "node:assert/strict";
import { writeFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, browser, freePorts, later, run, test, WAIT_MS } from "./harness.mjs";
import { processes } from "./cluster.mjs";
import { serve } from "./server.mjs";

const MANY = 20_000;
const TABS = 10;

const nodes = await processes(binary, await freePorts(3));
later(nodes.stop);
const pages = await serve();
later(pages.stop);
await nodes.halcyon("tenant", "set", "app", "allowed_origins", pages.origin);

async function open(context, { tenant = "app", key = nodes.key, ends = [0, 1, 2], ...more } = {}) {
  const page = await context.newPage();
  const query = new URLSearchParams({ tenant, key, ...more });
  for (const at of ends) query.append("node", nodes.node(at));
  await page.goto(`${pages.origin}/?${query}`);
  await page.waitForFunction(() => "test" in window);
  return page;
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { timeout: WAIT_MS });
const synced = (page) => until(page, () => window.test.status().result === "synced");
const shows = (page, title) => until(page, (title) => window.test.titles().includes(title), title);
const idle = (page) => until(page, () => window.test.status().waiting === 0);

/** Streams that nodes were asked for so far. */
async function streams() {
  const counted = [0, 1, 2].map(async (at) => {
    const text = await fetch(`${nodes.node(at)}/metrics`).then((answer) => answer.text());
    const lines = text
      .split("\n")
      .filter((line) => /^halcyon_call_seconds_count.*(Watch|Connect)"/.test(line));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  });
  return (await Promise.all(counted)).reduce((sum, count) => sum + count, 0);
}

test("ten tabs are one client: one stream, and each shows what any of them writes", async () => {
  const context = await browser();
  const before = await streams();
  const first = await open(context);
  await synced(first);
  const others = [];
  for (let at = 1; at < TABS; at += 1) others.push(await open(context));
  const tabs = [first, ...others];
  for (const [at, tab] of tabs.entries())
    await tab.evaluate((title) => window.test.insert(title), `tab ${at}`);
  for (const tab of tabs) await until(tab, (count) => window.test.titles().length === count, TABS);
  assert.equal((await streams()) - before, 1);
  // Whichever goes, the others go on.
  for (const tab of tabs.slice(0, -1)) await tab.close();
  const last = tabs[TABS - 1];
  await last.evaluate(() => window.test.confirmed("after nine closed"));
  await shows(last, "after nine closed");
  await idle(last);
  await context.close();
});

test("a node is killed under a tab: it moves to another region, and nothing is lost or doubled", async () => {
  const [ann, bob] = [await open(await browser()), await open(await browser())];
  await Promise.all([synced(ann), synced(bob)]);
  await ann.evaluate(() => window.test.confirmed("before"));
  const { address } = await ann.evaluate(() => window.test.status());
  const at = [0, 1, 2].find((at) => nodes.node(at) === address);
  assert.notEqual(at, undefined, address);
  // Confirmed is on that node's disk; another region has it before the node goes, so that the others can show it.
  await shows(bob, "before");
  await nodes.kill(at);
  const titles = Array.from({ length: 20 }, (_, at) => `during ${at}`);
  for (const title of titles) await ann.evaluate((title) => window.test.insert(title), title);
  await until(
    ann,
    (dead) => window.test.status().address !== dead && window.test.status().result === "synced",
    address,
  );
  await idle(ann);
  for (const title of titles) await shows(bob, title);
  for (const page of [ann, bob]) {
    const all = await page.evaluate(() => window.test.titles());
    assert.deepEqual([...new Set(all)], all, "nothing twice");
    assert.deepEqual(await page.evaluate(() => window.test.errors), []);
  }
  // The node comes back with what it had, and gets what it missed.
  await nodes.start(at);
  const agreed = JSON.parse(await nodes.halcyon("--json", "verify", "--tenant", "app", "--wait", "60s"));
  assert.equal(agreed.replicas.length, 3);
});

test("one endpoint is enough to find the tenant's other nodes, also when it and the nearest node are gone", async () => {
  const words = ["tenant", "create", "pair", "--regions", "us-east,ap-south"];
  const { key } = JSON.parse(await nodes.halcyon("--json", ...words));
  await nodes.halcyon("tenant", "set", "pair", "allowed_origins", pages.origin);
  const page = await open(await browser(), { tenant: "pair", key, ends: [0] });
  await synced(page);
  await page.evaluate(() => window.test.confirmed("before"));
  const { address } = await page.evaluate(() => window.test.status());
  const near = [1, 2].find((at) => nodes.node(at) === address);
  assert.notEqual(near, undefined, address);
  await nodes.kill(0);
  await nodes.kill(near);
  await page.evaluate(() => window.test.confirmed("with one node left"));
  assert.equal((await page.evaluate(() => window.test.status())).address, nodes.node(3 - near));
  await page.context().close();
  await nodes.start(0);
  await nodes.start(near);
  await nodes.halcyon("--json", "verify", "--tenant", "pair", "--wait", "60s");
});

test(`${MANY} entities: the first fifty, and all of them, and a write among them`, async () => {
  const { key } = JSON.parse(
    await nodes.halcyon("--json", "tenant", "create", "many", "--regions", "eu-west,us-east,ap-south"),
  );
  await nodes.halcyon("tenant", "set", "many", "allowed_origins", pages.origin);
  const file = join(tmpdir(), `halcyon-many-${process.pid}.csv`);
  const lines = Array.from(
    { length: MANY },
    (_, at) => `t${at},todo ${String(at).padStart(5, "0")},false,${at}`,
  );
  await writeFile(file, `id,title,done,at\n${lines.join("\n")}\n`);
  await nodes.halcyon("--key", key, "import", file, "--tenant", "many", "--type", "todo");
  await rm(file);
  const context = await browser();
  const page = await open(context, { tenant: "many", key, name: "many" });
  await until(page, (many) => window.test.result().data.length === many, MANY);
  const top = await page.evaluate(() => window.test.top().data.map((todo) => todo.at));
  assert.deepEqual(
    top,
    Array.from({ length: 50 }, (_, at) => MANY - 1 - at),
  );
  await page.evaluate(() => window.test.insert("one more", { at: 1e6 }));
  await until(
    page,
    (many) => window.test.result().data.length === many + 1 && window.test.top().data[0].at === 1e6,
    MANY,
  );
  await idle(page);
  await page.close();
  // From this device, with nobody to ask.
  const again = await context.newPage();
  const query = new URLSearchParams({ tenant: "many", key, name: "many", node: "http://127.0.0.1:9" });
  await again.goto(`${pages.origin}/?${query}`);
  await again.waitForFunction((many) => window.test?.result().data.length === many, MANY + 1, {
    timeout: WAIT_MS,
  });
});

await run();
