// The page of the figures: a client, and a function for each thing that is measured in a browser.

import * as halcyon from "/dist/index.js";
import { schemaOf } from "./schema.js";

const options = new URL(location.href).searchParams;
const now = () => performance.timeOrigin + performance.now();
const from = performance.now();
const db = halcyon.createClient({
  schema: schemaOf(halcyon),
  tenant: options.get("tenant"),
  endpoints: options.getAll("node"),
  auth: { key: options.get("key") },
  name: options.get("name") ?? "figures",
});
const top = db.issue.orderBy("rank", "desc").limit(50);
const everything = db.issue.orderBy("rank").include({ author: { include: { team: true } } });
const stops = [];

/** Milliseconds from now, or from `since`, until a query's result is as it should be. */
function until(query, is, since = performance.now()) {
  const followed = db.follow(query);
  return new Promise((resolve, reject) => {
    const look = () => {
      const { result } = followed;
      if (result.error) reject(result.error);
      if (!is(result)) return;
      const took = performance.now() - since;
      queueMicrotask(() => stop());
      resolve(took);
    };
    const stop = followed.listen(look);
    look();
  });
}

/** A worker that does nothing of its own. */
const bare = () => {
  const { port } = new SharedWorker("/bench/bare.js", { type: "module", name: "bare" });
  port.start();
  const heard = (is) =>
    new Promise((resolve) => {
      const on = ({ data }) => {
        if (!is(data)) return;
        port.removeEventListener("message", on);
        resolve(data);
      };
      port.addEventListener("message", on);
    });
  return { port, heard };
};

const keep = (query) => stops.push(db.follow(query).listen(() => undefined));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isLoaded = ({ isLoaded }) => isLoaded;

window.bench = {
  /** From the client's beginning until all issues are on the page, as a node has them. */
  firstLoad: (count) => {
    // What nobody follows any more leaves the disk too.
    keep(db.issue);
    return until(db.issue, ({ data }) => data.length === count, from);
  },
  /** From the client's beginning until the first fifty are on the page. */
  firstResult: (count) => until(top, ({ data }) => data.length === count, from),
  /** Waits until the disk has so many entities. */
  onDisk: async (count) => {
    const name = `halcyon:${options.get("name")}:${options.get("tenant")}`;
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    // An entity is there when its facts are: as records of the log, each behind its letter and its lengths.
    const factsIn = (packed) => {
      const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
      let facts = 0;
      for (let at = 0; at < packed.length; at += 8 + view.getUint16(at + 2) + view.getUint32(at + 4))
        facts += packed[at] === 0x66 ? 1 : 0;
      return facts;
    };
    for (let held = 0; held < count; await pause(100)) {
      const request = database.transaction("l").objectStore("l").getAll();
      const log = await new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
      held = log.reduce((sum, packed) => sum + factsIn(packed), 0);
    }
    database.close();
  },
  /** Has all on the device, so that everything after it is local. */
  loadAll: async (count) => {
    keep(everything);
    await until(everything, ({ data, status }) => data.length === count && status === "synced");
  },
  settled: async () => {
    await until(top, ({ status }) => status === "synced");
  },
  online: (isOnline) => db.setOnline(isOnline),
  /** When each title came to the first row of the own first fifty. */
  watchTop: () => {
    window.seen = {};
    const followed = db.follow(top);
    let last;
    stops.push(
      followed.listen(() => {
        const title = followed.result.data[0]?.title;
        if (title !== undefined && title !== last) window.seen[title] ??= now();
        last = title;
      }),
    );
  },
  /** Writes so many, each at another moment of a frame, and says when. */
  write: async (name, count, rank) => {
    const written = {};
    for (let at = 0; at < count; at += 1) {
      const title = `${name} ${at}`;
      written[title] = now();
      const write = db.issue.insert({ title, rank: rank + at, created: at });
      await write.confirmed;
      await pause(20 + (at % 17));
    }
    return written;
  },
  /** The same by a bare worker and a bare server. */
  watchBare: async (server) => {
    const { port, heard } = bare();
    window.seen = {};
    port.addEventListener("message", ({ data }) => {
      if (data.seen !== undefined) window.seen[data.seen] = now();
    });
    const listening = heard((data) => data.listening);
    port.postMessage({ listen: server });
    await listening;
  },
  writeBare: async (server, count) => {
    const { port, heard } = bare();
    const written = {};
    for (let number = 0; number < count; number += 1) {
      const answered = heard((data) => data.written === number);
      written[number] = now();
      port.postMessage({ post: server, number });
      await answered;
      await pause(20 + (number % 17));
    }
    return written;
  },
  /** Asks a bare worker for so much text. */
  echoes: async (length, count) => {
    const { port, heard } = bare();
    const all = [];
    for (let at = 0; at < count; at += 1) {
      const since = performance.now();
      const answered = heard((data) => data.length === length);
      port.postMessage({ echo: length });
      await answered;
      all.push(performance.now() - since);
      await pause(50);
    }
    return all;
  },
  /** A write until it is in the page's own first fifty. */
  ownWrites: async (count, rank) => {
    const followed = db.follow(top);
    const all = [];
    for (let at = 0; at < count; at += 1) {
      const title = `own ${rank + at}`;
      const since = performance.now();
      const seen = new Promise((resolve) => {
        const stop = followed.listen(() => {
          if (followed.result.data[0]?.title !== title) return;
          resolve(performance.now() - since);
          queueMicrotask(() => stop());
        });
      });
      db.issue.insert({ title, rank: rank + at, created: at });
      all.push(await seen);
      await pause(10 + (at % 7));
    }
    return all;
  },
  /** A query that nobody asked before, until its rows are on the page. */
  queries: async (kind, count) => {
    const make = {
      filter: (at) =>
        db.issue
          .where({ open: true, rank: { gte: 1_000 + at } })
          .orderBy("created", "desc")
          .limit(50),
      hops: (at) =>
        db.issue
          .where({ open: true, rank: { gte: 2_000 + at } })
          .orderBy("created", "desc")
          .limit(50)
          .include({ author: { include: { team: true } } }),
      allHops: (at) =>
        db.issue.where({ rank: { gte: -1 - at } }).include({ author: { include: { team: true } } }),
    }[kind];
    const all = [];
    for (let at = 0; at < count; at += 1) {
      all.push(await until(make(at), isLoaded));
      await pause(50);
    }
    return all;
  },
};
