// The page of the browser tests: a client, and a few functions for the test to call.

import { createClient, defineSchema, t } from "/dist/index.js";

const entities = {
  user: t.entity({ name: t.string() }),
  todo: t.entity({
    title: t.string(),
    done: t.boolean().default(false),
    at: t.number().default(0),
    owner: t.ref("user", { inverse: "todos" }),
  }),
};
const rooms = {
  doc: {
    presence: { cursor: t.json(), since: t.date() },
    status: { mode: t.string() },
    events: { ping: { count: t.number() } },
  },
};
const options = new URL(location.href).searchParams;
/** What a later version of the app has. */
const later = {
  ...entities,
  todo: t.entity({ ...entities.todo.fields, at: t.date().optional(), priority: t.number().default(3) }),
  tag: t.entity({ name: t.string() }),
};
const schema = defineSchema(options.get("schema") === "2" ? later : entities, { rooms });
const errors = [];
const invalid = [];
const db = createClient({
  schema,
  tenant: options.get("tenant"),
  endpoints: options.getAll("node"),
  auth: { key: options.get("key"), user: options.get("user") ?? undefined },
  name: options.get("name") ?? "test",
  worker: options.get("worker") ?? "auto",
  preloaded: window.preloaded,
  // A worker that breaks when the test says so.
  files: options.has("breaks")
    ? { worker: new URL(`/breaks.js?${options.get("breaks")}`, location.href) }
    : {},
  onInvalidData: (where) => invalid.push(where),
  onRefused: (error) => errors.push({ code: error.code, message: error.message }),
  onFailed: (error) => errors.push({ code: error.code, message: error.message }),
});
const todos = db.todo.orderBy("title");
const followed = db.follow(todos);
followed.listen(() => undefined);
const top = db.follow(db.todo.orderBy("at", "desc").limit(50).include({ owner: true }));
top.listen(() => undefined);

window.test = {
  db,
  errors,
  invalid,
  result: () => followed.result,
  top: () => top.result,
  titles: () => followed.result.data.map((todo) => todo.title),
  status: () => ({ ...db.connection, result: followed.result.status }),
  insert: async (title, more = {}) => {
    const write = db.todo.insert({ title, ...more });
    await write.kept;
    return write.value;
  },
  update: async (id, values) => {
    await db.todo.update(id, values).kept;
  },
  remove: async (id) => {
    await db.todo.delete(id).kept;
  },
  confirmed: async (title) => {
    await db.todo.insert({ title }).confirmed;
  },
  /** Milliseconds from a write to the page's own live query. */
  ownWrite: (title) =>
    new Promise((resolve) => {
      const from = performance.now();
      const stop = followed.listen(() => {
        if (!followed.result.data.some((todo) => todo.title === title)) return;
        stop();
        resolve(performance.now() - from);
      });
      db.todo.insert({ title });
    }),
  online: (isOnline) => db.setOnline(isOnline),
  /** What became of a write, once a node has answered. */
  outcome: async (write) => {
    const kept = await write.kept.then(
      () => "kept",
      (error) => error.code,
    );
    const confirmed = await write.confirmed.then(
      () => "confirmed",
      (error) => error.code,
    );
    return { kept, confirmed, status: write.status, superseded: write.superseded };
  },
  /** Enters a room and notes what is said there. */
  enter: (id, presence) => {
    const room = db.room("doc", id, { presence });
    const heard = [];
    const stops = [
      room.listen(() => undefined),
      room.on("ping", ({ data, from }) => heard.push({ ...data, from })),
    ];
    window.test.room = room;
    window.test.heard = heard;
    window.test.leave = () => stops.forEach((stop) => stop());
  },
};
