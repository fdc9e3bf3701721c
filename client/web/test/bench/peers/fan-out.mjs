// Clients of a peer in this process, its server in another: how long a write is under way.

import { fork } from "node:child_process";
import { TOP } from "../schema.js";
import { list, pause, requireFrom } from "./common.mjs";

const WRITES = 150;
/** No peer is that slow: the write is lost. */
const LATE_MS = 10_000;

/** The server in a process of its own, as a node is. Our output is one line, so what it prints is dropped. */
export async function served(dir, which) {
  const child = fork(process.argv[1], [dir, which, "0", "server"], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const port = await new Promise((resolve, reject) => {
    child.once("message", resolve);
    child.once("exit", (code) => reject(new Error(`the server of ${which} ended with ${code}`)));
  });
  return { port, stop: () => child.kill() };
}

/** Sockets on a port of their own. */
export async function listening(dir) {
  const { WebSocketServer } = requireFrom(dir)("ws");
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await new Promise((resolve) => sockets.once("listening", resolve));
  return { sockets, port: sockets.address().port };
}

/**
 * From a write at the first client until the last of the others has it. `hear` tells a listener the keys that come to
 * one of them. `first` is for what is written to already.
 */
export async function fanOut({ write, hear }, many, { first = 0, writes = WRITES } = {}) {
  const others = list(many - 1, (at) => at + 1);
  const all = [];
  let missing, from, done;
  for (const at of others) {
    hear(at, (key) => {
      if (!missing?.get(key)?.delete(at) || missing.get(key).size > 0) return;
      all.push(performance.now() - from);
      done();
    });
  }
  for (let at = 0; at < writes; at += 1) {
    const key = `k${first + at}`;
    missing = new Map([[key, new Set(others)]]);
    const over = new Promise((resolve) => (done = resolve));
    from = performance.now();
    write(key, { title: `Issue ${at}`, rank: TOP + first + at });
    await Promise.race([over, pause(LATE_MS)]);
    if (all.length <= at) throw new Error(`write ${at} did not come to all of ${many} clients`);
    await pause(20);
  }
  return all;
}

/** The same with a server that has nothing yet. */
export async function fanOutOf(dir, which, open, many, options) {
  const server = await served(dir, which);
  const clients = await open(dir, server.port, many);
  const all = await fanOut(clients, many, options);
  await clients.close();
  server.stop();
  return all;
}
