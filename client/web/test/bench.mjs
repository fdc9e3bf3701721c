// The figures that stand in the README: what people wait for, in Chromium and in Node, beside other libraries.
//
//   HALCYON=target/release/halcyon node test/bench.mjs [--json] [--only load,live] [--no-peers]
//
// One node on loopback, everything durable on its disk. Peers keep nothing on a disk. They are installed into a
// directory of their own (PEERS=dir, or one in the temporary directory); where npm cannot, they are left out.

import { execFile, execFileSync, fork } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { binary, browser, freePorts, later, run, test, WAIT_MS } from "./browser/harness.mjs";
import { processes } from "./browser/cluster.mjs";
import { serve } from "./browser/server.mjs";
import { bare } from "./bench/bare.mjs";
import { load, until } from "./bench/node-client.mjs";
import { issueAt, MANY, schemaOf, teamAt, TEAMS, TOP, userAt, USERS } from "./bench/schema.js";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "../dist");
const SWARM = 200;
/** About what fifty rows weigh on their way from the worker to the page. */
const FIFTY_ROWS_BYTES = 8_000;
const CURSORS = { users: 50, rate: 60, seconds: 10 };
/** Exact, and those of Triplit's own parts too, where its engine is. */
const PEERS = [
  "datascript@1.8.1",
  "yjs@13.6.33",
  "y-websocket@1.5.4",
  "ws@8.23.0",
  "tinybase@6.7.5",
  "@triplit/client@1.0.50",
  "@triplit/db@1.1.10",
  "@triplit/server@1.1.8",
  "@triplit/server-core@1.0.52",
  "@instantdb/core@1.0.67",
];
/** What engines do by themselves, and how the table calls it. */
const ALONE = [
  ["filter", `filter, order, limit 50 over ${MANY} (Node)`],
  ["whole", "the same with two hops (Node)"],
  ["all", "two hops of all rows (Node)"],
  ["write", "write to the own live query (Node)"],
];

const isJson = process.argv.includes("--json");
const onlyAt = process.argv.indexOf("--only");
const only = onlyAt < 0 ? undefined : process.argv[onlyAt + 1].split(",");
const rows = [];
// The answer alone goes to stdout then.
if (isJson) console.log = console.error;

const sorted = (all) => [...all].sort((a, b) => a - b);
const part = (all, of) => sorted(all)[Math.min(all.length - 1, Math.floor(all.length * of))];
const short = (ms) =>
  ms === undefined ? "-" : ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : ms.toFixed(0);

/** A line of the table. `must` is p50, or p50 and p99. */
function figure(what, who, all, must) {
  const row = { what, who, runs: all.length, p50: part(all, 0.5), p99: part(all, 0.99), must };
  rows.push(row);
  if (!isJson)
    console.log(`  ${what} · ${who}: p50 ${short(row.p50)} ms, p99 ${short(row.p99)} ms (${row.runs})`);
}

const figures = (name, body) => {
  if (!only || only.includes(name)) test(name, body);
};

const nodes = await processes(binary, await freePorts(1), ["eu-west"]);
later(nodes.stop);
const pages = await serve();
later(pages.stop);
await nodes.halcyon("tenant", "set", "app", "allowed_origins", pages.origin);

/** A tenant with all issues, users and teams. */
async function filled(name) {
  const created = await nodes.halcyon("--json", "tenant", "create", name, "--regions", "eu-west");
  const { key } = JSON.parse(created);
  await nodes.halcyon("tenant", "set", name, "allowed_origins", pages.origin);
  const sheet = async (type, count, entity, ...refs) => {
    const all = Array.from({ length: count }, (_, at) => entity(at));
    const file = join(tmpdir(), `halcyon-figures-${process.pid}-${type}.jsonl`);
    writeFileSync(file, all.map((one) => `${JSON.stringify(one)}\n`).join(""));
    const words = refs.flatMap((ref) => ["--ref", ref]);
    await nodes.halcyon("--key", key, "import", file, "--tenant", name, "--type", type, ...words);
  };
  await sheet("team", TEAMS, teamAt);
  await sheet("user", USERS, userAt, "team=team");
  await sheet("issue", MANY, issueAt, "author=user");
  return { tenant: name, key };
}

async function open(context, { tenant = "app", key = nodes.key, node = nodes.node(0) } = {}) {
  const page = await context.newPage();
  const query = new URLSearchParams({ tenant, key, node, name: "figures" });
  await page.goto(`${pages.origin}/bench/page.html?${query}`);
  await page.waitForFunction(() => "bench" in window);
  return page;
}

/** From a write in one browser until it is in the other's first fifty. */
async function seenBy(writer, reader, count, rank) {
  await reader.evaluate(() => window.bench.watchTop());
  await Promise.all([writer, reader].map((page) => page.evaluate(() => window.bench.settled())));
  const name = `seen ${rank}`;
  const written = await writer.evaluate(
    ([name, count, rank]) => window.bench.write(name, count, rank),
    [name, count, rank],
  );
  const last = `${name} ${count - 1}`;
  await reader.waitForFunction((last) => last in window.seen, last);
  const seen = await reader.evaluate(() => window.seen);
  // One that a later one overtook was not on the screen.
  return Object.entries(written).flatMap(([title, at]) => (title in seen ? [seen[title] - at] : []));
}

let large;
const largeTenant = async () => (large ??= await filled("large"));

figures("seen", async () => {
  const [writer, reader] = [await open(await browser()), await open(await browser())];
  await seenBy(writer, reader, 20, TOP);
  const all = await seenBy(writer, reader, 300, TOP + 1_000);
  figure("write in browser A, seen in B's live query", "Halcyon", all, [5, 15]);
  await Promise.all([writer, reader].map((page) => page.context().close()));
});

/** What browser, system and disk take of it: bare workers, and a bare server that keeps what is posted to it. */
figures("floor", async () => {
  const server = await bare();
  later(server.stop);
  const [writer, reader] = [await open(await browser()), await open(await browser())];
  await reader.evaluate((server) => window.bench.watchBare(server), server.origin);
  const write = (count) =>
    writer.evaluate(([server, count]) => window.bench.writeBare(server, count), [server.origin, count]);
  await write(20);
  const written = await write(300);
  await reader.waitForFunction(() => 299 in window.seen);
  const seen = await reader.evaluate(() => window.seen);
  const all = Object.entries(written).map(([number, at]) => seen[number] - at);
  figure("a write in A, seen in B, by bare fetches and a bare server with a disk", "Chromium, Node", all);
  const echoes = await reader.evaluate((length) => window.bench.echoes(length, 30), FIFTY_ROWS_BYTES);
  figure("fifty rows' text from a bare worker to the page", "Chromium", echoes);
  await Promise.all([writer, reader].map((page) => page.context().close()));
});

figures("load", async () => {
  const tenant = await largeTenant();
  const first = [];
  const again = [];
  for (let at = 0; at < 5; at += 1) {
    const context = await browser();
    const page = await open(context, tenant);
    first.push(await page.evaluate((count) => window.bench.firstLoad(count), MANY));
    await page.evaluate((count) => window.bench.onDisk(count), MANY);
    await page.close();
    // With nobody to ask.
    const next = await open(context, { ...tenant, node: "http://127.0.0.1:9" });
    again.push(await next.evaluate(() => window.bench.firstResult(50)));
    await context.close();
  }
  figure(`first load of ${MANY} entities`, "Halcyon", first, [500]);
  figure("reload with all in IndexedDB, to the first result", "Halcyon", again, [250]);
});

figures("live", async () => {
  const tenant = await largeTenant();
  const [writer, reader] = [await open(await browser(), tenant), await open(await browser(), tenant)];
  await reader.evaluate((count) => window.bench.loadAll(count), MANY);
  await seenBy(writer, reader, 20, TOP + 2_000);
  const all = await seenBy(writer, reader, 200, TOP + 3_000);
  figure(`the same, ${MANY} entities at B, first fifty`, "Halcyon", all, [6, 20]);
  const own = await reader.evaluate((rank) => window.bench.ownWrites(100, rank), TOP + 4_000);
  figure("write to the own live query, 100,000 triples", "Halcyon", own, [2]);
  await reader.evaluate(() => window.bench.online(false));
  const ask = (kind, times) =>
    reader.evaluate(([kind, times]) => window.bench.queries(kind, times), [kind, times]);
  figure(`filter, order, limit 50 over ${MANY}`, "Halcyon, to the page", await ask("filter", 30), [1]);
  figure("the same with two hops of 50", "Halcyon, to the page", await ask("hops", 30), [1]);
  figure("two hops of all rows", "Halcyon, to the page", await ask("allHops", 7), [40]);
  await Promise.all([writer, reader].map((page) => page.context().close()));
});

/** Clients in processes of their own, so many in each. */
async function swarm(counts, { tenant = "app", key = nodes.key } = {}) {
  const children = [];
  let first = 0;
  for (const clients of counts) {
    const settings = JSON.stringify({ clients, first, node: nodes.node(0), tenant, key });
    const child = fork(join(here, "bench/swarm.mjs"), [dist, settings], { serialization: "advanced" });
    children.push(child);
    first += clients;
    await heard(child, "ready");
  }
  later(() => children.forEach((child) => child.kill("SIGKILL")));
  return { children, stop: () => children.forEach((child) => child.kill("SIGKILL")) };
}

/** What a process says next of a kind. */
const heard = (child, kind) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`a process of the swarm does not say ${kind}`)), WAIT_MS);
    const on = (message) => {
      if (!(kind in message)) return;
      clearTimeout(late);
      child.off("message", on);
      child.off("exit", ended);
      resolve(message);
    };
    const ended = (code) => {
      clearTimeout(late);
      reject(new Error(`a process of the swarm ended with ${code}`));
    };
    child.on("message", on);
    child.on("exit", ended);
  });

async function fanOut(clients, writes) {
  const { children, stop } = await swarm([clients]);
  const [child] = children;
  child.send({ task: "follow" });
  await heard(child, "done");
  const all = [];
  for (let at = 0; at < writes; at += 1) {
    const title = `fan ${clients} ${at}`;
    const [wrote, seen] = [heard(child, "wrote"), heard(child, "seen")];
    child.send({ task: "write", title, rank: TOP + clients * 1_000 + at });
    all.push((await seen).at - (await wrote).at);
    await new Promise((resolve) => setTimeout(resolve, 20 + (at % 7)));
  }
  stop();
  return all.slice(5);
}

figures("swarm", async () => {
  figure("write in a client, seen in another (Node)", "Halcyon", await fanOut(2, 155));
  figure(`one write to ${SWARM} clients (Node), the last one`, "Halcyon", await fanOut(SWARM, 45), [20]);
});

/** Seconds of CPU that a process has used. */
function cpu(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

figures("cursors", async () => {
  const { users, rate, seconds } = CURSORS;
  const { children, stop } = await swarm([users - 1, 1]);
  const [moving, looking] = children;
  const entered = children.map((child) => heard(child, "entered"));
  moving.send({ task: "cursors", rate, seconds, isLooking: false });
  looking.send({ task: "cursors", rate, seconds, isLooking: true });
  await Promise.all(entered);
  const [counting, over] = [heard(looking, "counting"), heard(looking, "delays")];
  for (const child of children) child.send({ begin: true });
  await counting;
  const [before, from] = [cpu(nodes.pid(0)), performance.now()];
  const { delays } = await over;
  const used = (cpu(nodes.pid(0)) - before) / ((performance.now() - from) / 1_000);
  stop();
  figure(`cursors at ${rate} Hz of ${users} users`, "Halcyon", delays, [undefined, 40]);
  rows.push({ what: "the same, CPU of the node", who: "Halcyon", runs: 1, cores: used });
  // A process that runs many clients gets along more slowly than as many browsers would: how often they moved counts.
  const moved = delays.length / (users - 1) / seconds;
  rows.push({ what: "the same, moves a second that each could make here", who: "Halcyon", runs: 1, moved });
  console.log(`  node: ${(100 * used).toFixed(0)} % of a core; ${moved.toFixed(1)} moves a second of each`);
});

/** Whether npm has put a package there, of the very version. */
function isThere(dir, pinned) {
  const at = pinned.lastIndexOf("@");
  const file = join(dir, "node_modules", pinned.slice(0, at), "package.json");
  return existsSync(file) && JSON.parse(readFileSync(file, "utf8")).version === pinned.slice(at + 1);
}

let installed;
/** Where the peers are, or nothing where npm cannot install them. It is asked once. */
const peers = () => (installed ??= { dir: install() }).dir;

function install() {
  const dir = process.env.PEERS ?? join(tmpdir(), "halcyon-figures-peers");
  if (process.argv.includes("--no-peers")) return undefined;
  if (PEERS.every((pinned) => isThere(dir, pinned))) return dir;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "package.json"), '{ "name": "peers", "private": true }\n');
  try {
    const words = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", ...PEERS];
    execFileSync("npm", words, { cwd: dir, stdio: ["ignore", "ignore", "inherit"] });
    return dir;
  } catch {
    console.error("the peers cannot be installed; they are left out");
    return undefined;
  }
}

async function peer(dir, which, count) {
  const script = join(here, "bench/peers.mjs");
  const { stdout } = await promisify(execFile)(process.execPath, [script, dir, which, String(count)], {
    maxBuffer: 1 << 24,
    timeout: 2 * WAIT_MS,
  });
  return JSON.parse(stdout);
}

figures("peers", async () => {
  const dir = peers();
  if (!dir) return;
  for (const [which, name] of [
    ["yjs", "Yjs, y-websocket"],
    ["tinybase", "TinyBase"],
  ]) {
    const { pair, fan } = await peer(dir, which, SWARM);
    figure("write in a client, seen in another (Node)", name, pair.slice(5));
    figure(`one write to ${SWARM} clients (Node), the last one`, name, fan.slice(5));
  }
});

figures("triplit", async () => {
  const dir = peers();
  if (!dir) return;
  const theirs = await peer(dir, "triplit", SWARM);
  figure("write in a client, seen in another (Node)", "Triplit", theirs.pair.slice(5));
  const live = `the same, ${MANY} entities`;
  figure(`${live} at the server, fifty at the reader (Node)`, "Triplit", theirs.top.slice(5));
  figure(`${live} at the reader, first fifty (Node)`, "Triplit", theirs.live.slice(5));
  figure(`one write to ${SWARM} clients (Node), the last one`, "Triplit", theirs.fan.slice(5));
  figure(`first load of ${MANY} entities (Node)`, "Triplit", theirs.load);
  for (const [what, name] of ALONE) figure(name, "Triplit", theirs[what]);
});

figures("instantdb", async () => {
  const dir = peers();
  if (!dir) return;
  const theirs = await peer(dir, "instantdb", MANY);
  for (const [what, name] of ALONE) figure(name, "InstantDB's engine", theirs[what]);
  figure("the same, its fifty alone in the store (Node)", "InstantDB's engine", theirs.fifty);
});

/** The same queries by the wasm engine in Node and by DataScript, one after the other. */
figures("datascript", async () => {
  const dir = peers();
  const { tenant, key } = await largeTenant();
  const halcyon = await load(dist);
  const options = { schema: schemaOf(halcyon), tenant, endpoints: [nodes.node(0)], auth: { key } };
  const connect = (name) => halcyon.createClient({ ...options, persistence: "memory", name });
  const loads = [];
  for (let at = 0; at < 5; at += 1) {
    const from = performance.now();
    const client = connect(`loads ${at}`);
    await until(client, client.issue, ({ data }) => data.length >= MANY);
    loads.push(performance.now() - from);
    await client.close();
  }
  figure(`first load of ${MANY} entities (Node)`, "Halcyon's wasm", loads);
  const db = connect("beside datascript");
  const hops = { author: { include: { team: true } } };
  const everything = db.issue.include(hops);
  db.follow(everything).listen(() => undefined);
  await until(db, everything, ({ data, status }) => data.length >= MANY && status === "synced");
  db.setOnline(false);
  const least = (at) =>
    db.issue
      .where({ open: true, rank: { gte: at } })
      .orderBy("created", "desc")
      .limit(50);
  const times = async (count, query) => {
    const all = [];
    for (let at = 0; at < count; at += 1) all.push(await until(db, query(at), ({ isLoaded }) => isLoaded));
    return all;
  };
  const ours = {
    filter: await times(15, (at) => least(1_000 + at)),
    whole: await times(15, (at) => least(2_000 + at).include(hops)),
    all: await times(3, (at) => db.issue.where({ rank: { gte: -1 - at } }).include(hops)),
    write: await ownWrites(db, 50),
  };
  const theirs = dir ? await peer(dir, "datascript", MANY) : undefined;
  for (const [what, name] of ALONE) {
    // Of a write there is a figure of its own to hold, in Chromium.
    const must = theirs && what !== "write" ? [part(theirs[what], 0.5) / 3] : undefined;
    figure(name, "Halcyon's wasm", ours[what], must);
    if (theirs) figure(name, "DataScript", theirs[what]);
  }
});

/** A write until it is the first of the own live query. */
async function ownWrites(db, count) {
  const top = db.issue.orderBy("rank", "desc").limit(50);
  const stop = db.follow(top).listen(() => undefined);
  await until(db, top, ({ isLoaded }) => isLoaded);
  const all = [];
  for (let at = 0; at < count; at += 1) {
    const title = `own ${at}`;
    const seen = until(db, top, ({ data }) => data[0]?.title === title);
    db.issue.insert({ title, rank: 2 * TOP + at, created: at });
    all.push(await seen);
    await new Promise((resolve) => setTimeout(resolve, 10 + (at % 7)));
  }
  stop();
  return all;
}

/** The table, as it stands in the README. */
function table() {
  const must = ({ must = [] }) => must.map((ms) => (ms === undefined ? "-" : short(ms))).join(" / ");
  const line = (row) => {
    if (row.cores !== undefined)
      return `| ${row.what} | ${row.who} | ${(100 * row.cores).toFixed(0)} % of a core | | |`;
    if (row.moved !== undefined) return `| ${row.what} | ${row.who} | ${row.moved.toFixed(1)} | | |`;
    return `| ${row.what} | ${row.who} | ${short(row.p50)} | ${short(row.p99)} | ${must(row)} |`;
  };
  const head = ["| ms | | p50 | p99 | must |", "|---|---|---:|---:|---:|"];
  return [...head, ...rows.map(line)].join("\n");
}

later(() => {
  const machine = `${cpus().length} × ${cpus()[0].model}`;
  process.stdout.write(
    isJson ? `${JSON.stringify({ machine, rows }, null, 1)}\n` : `\n${machine}\n\n${table()}\n`,
  );
});
await run();
