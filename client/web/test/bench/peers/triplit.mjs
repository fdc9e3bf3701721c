// Triplit: its own server with a store in memory, clients that keep all in memory too.
//
// Its schema has relations and no indexes. A client gathers its writes for 20 ms before it sends them and tells its own
// queries, so no write is seen sooner; a server sends on what it has every 10 ms.

import { createRequire } from "node:module";
import { join } from "node:path";
import { issueAt, MANY, teamAt, TEAMS, TOP, userAt, USERS } from "../schema.js";
import { importFrom, list, pause, requireFrom, timed } from "./common.mjs";
import { fanOut, fanOutOf, served } from "./fan-out.mjs";

const SECRET = "bench";
/** Issues in one call. */
const BULK = 5_000;
const LOCAL = { policy: "local-only" };

async function schemaFrom(dir) {
  const { Schema: S } = await importFrom(dir, "@triplit/client/dist/index.js");
  return S.Collections({
    team: { schema: S.Schema({ id: S.Id(), name: S.String() }) },
    user: {
      schema: S.Schema({ id: S.Id(), name: S.String(), team_id: S.String() }),
      relationships: { team: S.RelationById("team", "$1.team_id") },
    },
    issue: {
      schema: S.Schema({
        id: S.Id(),
        title: S.String(),
        open: S.Boolean({ default: true }),
        rank: S.Number({ default: 0 }),
        created: S.Number({ default: 0 }),
        author_id: S.Optional(S.String()),
      }),
      relationships: { author: S.RelationById("user", "$1.author_id") },
    },
  });
}

export async function serve(dir) {
  const { createServer } = await importFrom(dir, "@triplit/server/dist/index.js");
  const { createTriplitStorageProvider } = await importFrom(dir, "@triplit/server/dist/storage.js");
  const start = await createServer({
    storage: await createTriplitStorageProvider("memory"),
    dbOptions: { schema: { collections: await schemaFrom(dir) } },
    jwtSecret: SECRET,
    projectId: "bench",
    // Otherwise it prints each message.
    logHandler: { log: () => undefined, startSpan: () => undefined, endSpan: () => undefined },
  });
  return new Promise((resolve) => start(0, ({ port }) => resolve(port)));
}

/** How to make a client of a server. */
async function connecting(dir, port) {
  const { TriplitClient } = await importFrom(dir, "@triplit/client/dist/index.js");
  const schema = await schemaFrom(dir);
  // Node 20 has none. After the import, which would wrap it as only a browser's can be wrapped.
  globalThis.WebSocket = requireFrom(dir)("ws").WebSocket;
  const jwt = createRequire(join(dir, "node_modules/@triplit/server/package.json"))("jsonwebtoken");
  const token = jwt.sign({ "x-triplit-token-type": "secret", "x-triplit-project-id": "bench" }, SECRET);
  const serverUrl = `http://127.0.0.1:${port}`;
  return () => new TriplitClient({ schema, serverUrl, token, storage: "memory", logLevel: "error" });
}

const topOf = (client) => client.query("issue").Order("rank", "DESC").Limit(50);
const least = (client, rank) =>
  client
    .query("issue")
    .Where([
      ["open", "=", true],
      ["rank", ">=", rank],
    ])
    .Order("created", "DESC")
    .Limit(50);
const withHops = (query) => query.Include("author", (author) => author("author").Include("team"));

/** Each follows the top fifty; what comes first in it is what was written last. */
async function follow(clients) {
  const listeners = clients.map(() => () => undefined);
  const followed = (client, at) =>
    new Promise((resolve, reject) => {
      const tell = ([first]) => first && listeners[at](first.id);
      client.subscribe(topOf(client), tell, reject, { onRemoteFulfilled: resolve });
    });
  await Promise.all(clients.map(followed));
  return {
    write: (id, value) => clients[0].insert("issue", { id, ...value }),
    hear: (at, listener) => (listeners[at] = listener),
    close: () => Promise.all(clients.map((client) => client.endSession())),
  };
}

async function open(dir, port, many) {
  const connect = await connecting(dir, port);
  return follow(list(many, connect));
}

/** All issues, users and teams, by way of the server's HTTP. */
async function fill(client) {
  const ofUser = ({ team, ...user }) => ({ ...user, team_id: team });
  const ofIssue = ({ author, ...issue }) => ({ ...issue, author_id: author });
  await client.http.bulkInsert({ team: list(TEAMS, teamAt) });
  await client.http.bulkInsert({ user: list(USERS, (at) => ofUser(userAt(at))) });
  for (let first = 0; first < MANY; first += BULK) {
    const issue = list(Math.min(BULK, MANY - first), (at) => ofIssue(issueAt(first + at)));
    await client.http.bulkInsert({ issue });
  }
}

/** From the client's beginning until all issues are in its query. */
async function firstLoad(connect) {
  const client = connect();
  await new Promise((resolve, reject) => {
    client.subscribe(client.query("issue"), ({ length }) => length === MANY && resolve(), reject);
  });
  await client.endSession();
}

/** All on the device, users and teams too. */
const loadAll = (client) =>
  new Promise((onFulfilled, onError) => {
    client.subscribeBackground(withHops(client.query("issue")), { onFulfilled, onError });
  });

/** With nobody to ask. */
async function local(client, hear) {
  const filter = await timed(15, (at) => client.fetch(least(client, 1_000 + at), LOCAL));
  const whole = await timed(15, (at) => client.fetch(withHops(least(client, 2_000 + at)), LOCAL));
  const allFrom = (rank) => withHops(client.query("issue").Where("rank", ">=", rank));
  const all = await timed(5, (at) => client.fetch(allFrom(-1 - at), LOCAL));
  const write = [];
  for (let at = 0; at < 50; at += 1) {
    const id = `own ${at}`;
    const seen = new Promise((resolve) => hear((first) => first === id && resolve()));
    const from = performance.now();
    client.insert("issue", { id, title: id, rank: 2 * TOP + at, created: at });
    await seen;
    write.push(performance.now() - from);
    await pause(10 + (at % 7));
  }
  return { filter, whole, all, write };
}

export async function figures(dir, many) {
  const pair = await fanOutOf(dir, "triplit", open, 2);
  const fan = await fanOutOf(dir, "triplit", open, many, { writes: 45 });
  const server = await served(dir, "triplit");
  const connect = await connecting(dir, server.port);
  const writer = connect();
  await fill(writer);
  const load = await timed(5, () => firstLoad(connect));
  const reader = connect();
  const clients = await follow([writer, reader]);
  const top = await fanOut(clients, 2, { writes: 100 });
  await loadAll(reader);
  const live = await fanOut(clients, 2, { first: 100, writes: 35 });
  await clients.close();
  const figures = await local(reader, (listener) => clients.hear(1, listener));
  server.stop();
  return { pair, fan, load, top, live, ...figures };
}
