// Many clients in one Node process, told what to do by messages from the process that started it.
//
//   node swarm.mjs dist settings-as-json

import { load, until } from "./node-client.mjs";
import { schemaOf, TOP } from "./schema.js";

const [dist, given] = process.argv.slice(2);
const { clients, first, node, tenant, key } = JSON.parse(given);
const halcyon = await load(dist);
const schema = schemaOf(halcyon);
const auth = { key, user: "u" };
const dbs = Array.from({ length: clients }, (_, at) =>
  halcyon.createClient({
    schema,
    tenant,
    endpoints: [node],
    auth,
    name: `swarm ${first + at}`,
    persistence: "memory",
  }),
);
const now = () => performance.timeOrigin + performance.now();
const say = (message) => process.send?.(message);

const tasks = {
  /** Everybody follows the top, and says when it last changed. */
  follow: async () => {
    const seen = new Map();
    const isOurs = ({ status }) => status === "synced";
    await Promise.all(
      dbs.map(async (db) => {
        const query = db.issue
          .where({ rank: { gte: TOP } })
          .orderBy("rank", "desc")
          .limit(50);
        const followed = db.follow(query);
        followed.listen(() => {
          const title = followed.result.data[0]?.title;
          if (title === undefined) return;
          const { count, had } = seen.get(title) ?? { count: 0, had: new Set() };
          if (had.has(db)) return;
          had.add(db);
          seen.set(title, { count: count + 1, had });
          if (count + 1 === dbs.length) say({ seen: title, at: now() });
        });
        await until(db, query, isOurs);
      }),
    );
  },
  /** The first client writes. */
  write: async ({ title, rank }) => {
    const at = now();
    const write = dbs[0].issue.insert({ title, rank });
    say({ wrote: title, at });
    await write.confirmed;
  },
  /** Everybody moves a cursor so often, and looks how old the others' are when they come. */
  cursors: async ({ rate, seconds, isLooking }) => {
    const rooms = dbs.map((db) => db.room("doc", "cursors", { presence: { cursor: { at: 0 } } }));
    const delays = [];
    let isCounting = false;
    for (const [at, room] of rooms.entries()) {
      const last = new Map();
      room.listen(() => {
        // One looks for all of this process.
        if (!isLooking || at > 0 || !isCounting) return;
        const when = now();
        for (const peer of room.state.peers) {
          const sent = peer.presence.cursor?.at ?? 0;
          if (sent > 0 && last.get(peer.id) !== sent) {
            if (last.has(peer.id)) delays.push(when - sent);
            last.set(peer.id, sent);
          }
        }
      });
    }
    await new Promise((resolve) => {
      const wait = setInterval(() => {
        if (!rooms.every((room) => room.state.isConnected)) return;
        clearInterval(wait);
        resolve();
      }, 20);
    });
    say({ entered: true });
    await new Promise((resolve) => process.once("message", resolve));
    const timers = rooms.map((room, at) => {
      let moved = 0;
      const move = () => room.set({ cursor: { x: (moved += 1), y: at, at: now() } });
      let timer;
      // Not all in the same moment.
      const begin = setTimeout(
        () => (timer = setInterval(move, 1_000 / rate)),
        (at * 1_000) / rate / rooms.length,
      );
      return () => (clearTimeout(begin), clearInterval(timer));
    });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    isCounting = true;
    say({ counting: true });
    await new Promise((resolve) => setTimeout(resolve, 1_000 * seconds));
    isCounting = false;
    for (const stop of timers) stop();
    say({ delays });
  },
  end: async () => process.exit(0),
};

process.on("message", async ({ task, ...more }) => {
  if (!tasks[task]) return;
  await tasks[task](more);
  say({ done: task });
});
say({ ready: true });
