// The same things with other libraries, in Node: installed into a directory of their own, which npm fills once.
//
//   node peers.mjs dir yjs|tinybase|datascript [clients]       prints one line of JSON

import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { issueAt, teamAt, TEAMS, userAt, USERS } from "./schema.js";

const [dir, which, count = "200", role] = process.argv.slice(2);
const require = createRequire(join(dir, "package.json"));
/** TinyBase is modules only, which `require` does not find. */
const tinybase = (path) => import(pathToFileURL(join(dir, "node_modules/tinybase", path, "index.js")).href);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const WRITES = 150;

/** The server in a process of its own, as a node is. */
async function served() {
  const child = fork(process.argv[1], [dir, which, count, "server"]);
  const port = await new Promise((resolve) => child.once("message", resolve));
  return { url: `ws://127.0.0.1:${port}`, stop: () => child.kill() };
}

async function serve() {
  const { WebSocketServer } = require("ws");
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await new Promise((resolve) => sockets.once("listening", resolve));
  if (which === "yjs") {
    const { setupWSConnection } = require("y-websocket/bin/utils");
    sockets.on("connection", setupWSConnection);
  } else {
    const { createWsServer } = await tinybase("synchronizers/synchronizer-ws-server");
    createWsServer(sockets);
  }
  process.send?.(sockets.address().port);
}

/** Clients that hold one map together: how to write into one of them, and how to hear what comes to each. */
const clients = {
  yjs: async (url, many) => {
    const Y = require("yjs");
    const { WebsocketProvider } = require("y-websocket");
    const { WebSocket } = require("ws");
    const docs = Array.from({ length: many }, () => new Y.Doc());
    const options = { WebSocketPolyfill: WebSocket, disableBc: true };
    const providers = docs.map((doc) => new WebsocketProvider(url, "bench", doc, options));
    await Promise.all(providers.map((one) => new Promise((resolve) => one.once("sync", resolve))));
    return {
      write: (key, value) => docs[0].getMap("m").set(key, value),
      hear: (at, listener) =>
        docs[at].getMap("m").observe((event) => event.keysChanged.forEach((key) => listener(key))),
    };
  },
  tinybase: async (url, many) => {
    const { createMergeableStore } = await tinybase("");
    const { createWsSynchronizer } = await tinybase("synchronizers/synchronizer-ws-client");
    const { WebSocket } = require("ws");
    const stores = Array.from({ length: many }, (_, at) => createMergeableStore(`s${at}`));
    for (const store of stores) {
      const sync = await createWsSynchronizer(store, new WebSocket(`${url}/bench`));
      await sync.startSync();
    }
    return {
      write: (key, value) => stores[0].setRow("m", key, value),
      hear: (at, listener) => stores[at].addRowListener("m", null, (_, __, key) => listener(key)),
    };
  },
};

/** From a write at one client until the last of the others has it. */
async function fanOut(many) {
  const server = await served();
  const { write, hear } = await clients[which](server.url, many);
  const all = [];
  let missing, from, done;
  for (let at = 1; at < many; at += 1) {
    hear(at, (key) => {
      if (!missing?.get(key)?.delete(at) || missing.get(key).size > 0) return;
      all.push(performance.now() - from);
      done();
    });
  }
  for (let at = 0; at < WRITES; at += 1) {
    const key = `k${at}`;
    missing = new Map([[key, new Set(Array.from({ length: many - 1 }, (_, at) => at + 1))]]);
    const over = new Promise((resolve) => (done = resolve));
    from = performance.now();
    write(key, { title: `Issue ${at}`, rank: at });
    await Promise.race([over, pause(1_000)]);
    await pause(20);
  }
  server.stop();
  return all;
}

/** DataScript with the same issues; the queries as its own users write them. */
async function datascript(many) {
  const d = require("datascript");
  const one = { ":db/cardinality": ":db.cardinality/one", ":db/valueType": ":db.type/ref" };
  const schema = {
    id: { ":db/unique": ":db.unique/identity" },
    author: one,
    team: one,
    rank: { ":db/index": true },
  };
  const from = performance.now();
  const of = (count, entity) => Array.from({ length: count }, (_, at) => entity(at));
  const link = (entity, name) => ({ ...entity, [name]: ["id", entity[name]] });
  let db = d.db_with(d.empty_db(schema), of(TEAMS, teamAt));
  db = d.db_with(
    db,
    of(USERS, userAt).map((user) => link(user, "team")),
  );
  db = d.db_with(
    db,
    of(many, issueAt).map((issue) => link(issue, "author")),
  );
  const load = performance.now() - from;
  const query = `[:find ?e ?created :in $ ?least :where [?e "open" true] [?e "rank" ?rank] [(>= ?rank ?least)]
    [?e "created" ?created]]`;
  const top = (least) =>
    d
      .q(query, db, least)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 50)
      .map(([id]) => id);
  const timed = (times, what) =>
    Array.from({ length: times }, (_, at) => {
      const from = performance.now();
      what(at);
      return performance.now() - from;
    });
  const hops = '["*" {"author" ["*" {"team" ["*"]}]}]';
  const filter = timed(15, (at) => d.pull_many(db, '["*"]', top(1_000 + at)));
  const fifty = top(1_000);
  const include = timed(15, () => d.pull_many(db, hops, fifty));
  const whole = timed(15, (at) => d.pull_many(db, hops, top(2_000 + at)));
  const everyone = d.datoms(db, ":avet", "rank").map(({ e }) => e);
  const all = timed(3, () => d.pull_many(db, hops, everyone));
  const write = timed(50, (at) => {
    db = d.db_with(db, [
      { id: `own ${at}`, title: `own ${at}`, open: true, rank: 1e6 + at, created: 2e6 + at },
    ]);
    d.pull_many(db, '["*"]', top(1_000));
  });
  return { load: [load], filter, include, whole, all, write };
}

if (role === "server") {
  await serve();
} else {
  const figures =
    which === "datascript"
      ? await datascript(Number(count))
      : { pair: await fanOut(2), fan: await fanOut(Number(count)) };
  console.log(JSON.stringify(figures));
  process.exit(0);
}
