// TinyBase: mergeable stores that hold one table together.

import { importFrom, list, requireFrom } from "./common.mjs";
import { fanOutOf, listening } from "./fan-out.mjs";

export async function serve(dir) {
  const { createWsServer } = await importFrom(dir, "tinybase/synchronizers/synchronizer-ws-server/index.js");
  const { sockets, port } = await listening(dir);
  createWsServer(sockets);
  return port;
}

/** How to write into the first, and how to hear what comes to each. */
async function open(dir, port, many) {
  const { createMergeableStore } = await importFrom(dir, "tinybase/index.js");
  const { createWsSynchronizer } = await importFrom(
    dir,
    "tinybase/synchronizers/synchronizer-ws-client/index.js",
  );
  const { WebSocket } = requireFrom(dir)("ws");
  const stores = list(many, (at) => createMergeableStore(`s${at}`));
  const synchronizers = [];
  for (const store of stores) {
    const one = await createWsSynchronizer(store, new WebSocket(`ws://127.0.0.1:${port}/bench`));
    await one.startSync();
    synchronizers.push(one);
  }
  return {
    write: (key, value) => stores[0].setRow("m", key, value),
    hear: (at, listener) => stores[at].addRowListener("m", null, (_, __, key) => listener(key)),
    close: () => synchronizers.forEach((one) => one.destroy()),
  };
}

export const figures = async (dir, many) => ({
  pair: await fanOutOf(dir, "tinybase", open, 2),
  fan: await fanOutOf(dir, "tinybase", open, many),
});
