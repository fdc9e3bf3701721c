// Yjs with y-websocket: clients that hold one map together.

import { list, requireFrom } from "./common.mjs";
import { fanOutOf, listening } from "./fan-out.mjs";

export async function serve(dir) {
  const { setupWSConnection } = requireFrom(dir)("y-websocket/bin/utils");
  const { sockets, port } = await listening(dir);
  sockets.on("connection", setupWSConnection);
  return port;
}

/** How to write into the first, and how to hear what comes to each. */
async function open(dir, port, many) {
  const require = requireFrom(dir);
  const Y = require("yjs");
  const { WebsocketProvider } = require("y-websocket");
  const { WebSocket } = require("ws");
  const docs = list(many, () => new Y.Doc());
  const options = { WebSocketPolyfill: WebSocket, disableBc: true };
  const url = `ws://127.0.0.1:${port}`;
  const providers = docs.map((doc) => new WebsocketProvider(url, "bench", doc, options));
  await Promise.all(providers.map((one) => new Promise((resolve) => one.once("sync", resolve))));
  return {
    write: (key, value) => docs[0].getMap("m").set(key, value),
    hear: (at, listener) =>
      docs[at].getMap("m").observe((event) => event.keysChanged.forEach((key) => listener(key))),
    close: () => providers.forEach((one) => one.destroy()),
  };
}

export const figures = async (dir, many) => ({
  pair: await fanOutOf(dir, "yjs", open, 2),
  fan: await fanOutOf(dir, "yjs", open, many),
});
