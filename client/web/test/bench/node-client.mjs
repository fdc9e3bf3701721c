// The package in Node: as it is, with a worker that is no thread of its own.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Loads the package from `dist`. Clients made of it keep nothing, and need a name each. */
export async function load(dist) {
  // What the worker's side asks of a browser.
  globalThis.SharedWorkerGlobalScope = class {};
  let accept;
  globalThis.addEventListener = (name, listener) => {
    if (name === "connect") accept = listener;
  };
  const module = await WebAssembly.compile(await readFile(join(dist, "halcyon.wasm")));
  // Compiled once for all clients. Node's own fetch compiles something too.
  const compile = WebAssembly.compile;
  WebAssembly.compile = (bytes) => (bytes.byteLength === 0 ? Promise.resolve(module) : compile(bytes));
  const overHttp = globalThis.fetch;
  globalThis.fetch = (what, how) =>
    String(what).startsWith("file:") ? Promise.resolve(new Response("")) : overHttp(what, how);
  await import(pathToFileURL(join(dist, "worker.js")).href);
  // Messages go over as they are; a browser copies them.
  globalThis.SharedWorker = class {
    constructor() {
      const ends = [{ onmessage: null }, { onmessage: null }];
      for (const [at, end] of ends.entries()) {
        const other = ends[1 - at];
        end.postMessage = (data) => queueMicrotask(() => other.onmessage?.({ data }));
        end.start = () => undefined;
        end.close = () => undefined;
      }
      this.port = ends[0];
      accept({ ports: [ends[1]] });
    }
  };
  return import(pathToFileURL(join(dist, "index.js")).href);
}

/** Waits until a query's result is as it should be; says in how many milliseconds that was. */
export function until(db, query, is) {
  const from = performance.now();
  const followed = db.follow(query);
  return new Promise((resolve, reject) => {
    const look = () => {
      const { result } = followed;
      if (result.error) reject(result.error);
      if (!is(result)) return;
      queueMicrotask(() => stop());
      resolve(performance.now() - from);
    };
    const stop = followed.listen(look);
    look();
  });
}
