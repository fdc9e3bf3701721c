// The engine alone, in Node: modules beside each other, taking turns, on what a node told a first load of everything.
//
//   HALCYON=target/release/halcyon node test/bench/engine.mjs [module.wasm…]
//
// What a build of the module weighs and takes is compared so: by default it is the one that dist/ has.

import { readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { processes } from "../browser/cluster.mjs";
import { binary, freePorts, later, run, test } from "../browser/harness.mjs";
import { bundled, wasm } from "../unit/bundle.mjs";
import { issueAt, schemaOf, teamAt, TEAMS, userAt, USERS } from "./schema.js";

const MANY = 20_000;
const ROUNDS = 9;
const CALL_MS = 60_000;
/** What is loaded in a second on a machine that does nothing else. */
const LOAD_MS = 120_000;

const sources = await bundled(
  `export * from "./index"; export { Engine, packRecords } from "./worker/engine";
   export { call, stream } from "./worker/transport"; export { NextRows, shaper } from "./query/rows";`,
);
const { call, Engine, NextRows, packRecords, Query, shaper, stream } = sources;
const { entities } = schemaOf(sources);
const hops = { author: { include: { team: true } } };
const issues = new Query(entities, "issue");
const everything = issues.orderBy("rank").include(hops);
const top = issues.orderBy("rank", "desc").limit(50);
const some = (least) =>
  issues
    .where({ open: true, rank: { gte: least } })
    .orderBy("created", "desc")
    .limit(50);

const files = process.argv.length > 2 ? process.argv.slice(2) : [wasm.pathname];
const modules = await Promise.all(files.map(async (file) => WebAssembly.compile(await readFile(file))));
const open = (module, records) =>
  Engine.open(module, "app", records, { client: [7n, 7n], now: () => BigInt(Date.now()) });

const nodes = await processes(binary, await freePorts(1), ["eu-west"]);
later(nodes.stop);

async function sheet(type, count, entity, ...refs) {
  const file = join(tmpdir(), `halcyon-engine-${process.pid}-${type}.jsonl`);
  await writeFile(file, Array.from({ length: count }, (_, at) => `${JSON.stringify(entity(at))}\n`).join(""));
  const words = refs.flatMap((ref) => ["--ref", ref]);
  try {
    await nodes.halcyon("--key", nodes.key, "import", file, "--tenant", "app", "--type", type, ...words);
  } finally {
    await rm(file);
  }
}

/** What the session and its calls told, in order, until the query was synced; and the disk's records then. */
async function record() {
  const engine = await open(modules[0], []);
  const caller = { key: nodes.key, user: undefined };
  const told = [];
  engine.follow(1, everything.text);
  const ends = new AbortController();
  const signal = AbortSignal.any([ends.signal, AbortSignal.timeout(LOAD_MS)]);
  let isSynced = false;
  const look = () => {
    isSynced ||= allNews(engine).some(({ status }) => status === "synced");
    if (isSynced) ends.abort();
  };
  const ask = async ({ path, body, subscription }) => {
    const answer = await call(nodes.node(0), path, body, caller, CALL_MS, signal);
    told.push({ answer, subscription });
    engine.onSubscribed(subscription, answer);
    look();
  };
  const take = (event) => {
    told.push({ event });
    engine.onEvent(event);
    for (let wanted; (wanted = engine.nextCall());) ask(wanted).catch((error) => ends.abort(error));
    look();
    return !isSynced;
  };
  const connect = engine.connect();
  await stream(nodes.node(0), "Sessions/Connect", connect, caller, signal, take).catch((error) => {
    if (!isSynced) throw ends.signal.reason ?? error;
  });
  if (isSynced) return { told, records: packRecords(engine.takeRecords()) };
  throw new Error("the session ended before the query was synced");
}

/** All that is new, in all parts. */
function allNews(engine) {
  const news = [];
  do news.push(...engine.takeNews());
  while (news.at(-1)?.hasMore);
  return news;
}

const taken = files.map(() => new Map());

function timed(which, what, body) {
  const from = performance.now();
  const result = body();
  const all = taken[which].get(what) ?? [];
  taken[which].set(what, [...all, performance.now() - from]);
  return result;
}

function ask(engine, which, what, id, query) {
  const news = timed(which, what, () => {
    engine.follow(id, query.text);
    return allNews(engine);
  });
  engine.unfollow(id);
  return news.filter((frame) => frame.id === id);
}

async function round(which, at, { told, records }) {
  const fresh = await open(modules[which], []);
  fresh.follow(1, everything.text);
  timed(which, "first load of everything", () => {
    for (const { event, answer, subscription } of told) {
      if (event) fresh.onEvent(event);
      else fresh.onSubscribed(subscription, answer);
      while (fresh.nextCall());
      allNews(fresh);
    }
  });
  const from = performance.now();
  const engine = await open(modules[which], [records]);
  timed(which, "reload, the first fifty", () => {
    engine.follow(1, top.text);
    return allNews(engine);
  });
  // It opened before that.
  const reloads = taken[which].get("reload, the first fifty");
  reloads[reloads.length - 1] = performance.now() - from;
  engine.follow(2, everything.text);
  allNews(engine);
  for (let one = 0; one < 20; one += 1) {
    ask(engine, which, "filter, order, limit 50", 3, some(1_000 + 20 * at + one));
    ask(engine, which, "the same with two hops", 3, some(2_000 + 20 * at + one).include(hops));
  }
  const all = issues.where({ rank: { gte: -1 - at } }).include(hops);
  const parts = ask(engine, which, "two hops of all rows", 3, all);
  const rows = new NextRows(
    [],
    shaper(entities, "issue", all.parts, () => undefined),
  );
  timed(which, "the same, on the page", () => {
    for (const { text } of parts) rows.take(JSON.parse(text));
  });
}

test("the engine", async () => {
  await sheet("team", TEAMS, teamAt);
  await sheet("user", USERS, userAt, "team=team");
  await sheet("issue", MANY, issueAt, "author=user");
  const recorded = await record();
  for (let at = 0; at < ROUNDS; at += 1) for (const which of files.keys()) await round(which, at, recorded);
});

/** Medians in milliseconds, and KiB gzipped. */
later(async () => {
  const median = (all) => [...all].sort((a, b) => a - b)[all.length >> 1].toFixed(2);
  const line = (what, cells) => console.log(what.padEnd(28) + cells.map((one) => one.padStart(16)).join(""));
  line(
    "",
    files.map((file) => basename(file).slice(-15)),
  );
  const sizes = files.map(async (file) => gzipSync(await readFile(file), { level: 9 }).length / 1_024);
  line(
    "KiB gzipped",
    (await Promise.all(sizes)).map((size) => size.toFixed(0)),
  );
  for (const what of taken[0].keys())
    line(
      what,
      taken.map((of) => median(of.get(what))),
    );
});
await run();
