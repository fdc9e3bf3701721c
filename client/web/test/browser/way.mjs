// A way to a node that can be cut off in the manners of real networks: everything that a node answers goes through it,
// because it puts its own address in the place of the node's.

import { createServer, request as ask } from "node:http";

/** `node` is the address of a node, and `port` one that nobody has, with as many digits as the node's. */
export async function wayTo(node, port) {
  const [theirs, ours] = [new URL(node).host, `127.0.0.1:${port}`];
  if (theirs.length !== ours.length) throw new Error(`${ours} is not as long as ${theirs}`);
  /** "open"; "portal": every request is answered with a page; "dead": nothing comes through any more, nobody says so. */
  let mode = "open";
  const sockets = new Set();
  /** How the path of a call ends whose answer is to be lost. */
  let losing;
  /** What is on its way, and would still come if the way had not died meanwhile. */
  let alive = new Set();
  const portal = (request, response) => {
    const origin = request.headers.origin ?? "*";
    const allowed = { "access-control-allow-origin": origin, "access-control-allow-headers": "*" };
    const headers = { ...allowed, "access-control-allow-methods": "*", "content-type": "text/html" };
    response.writeHead(200, headers);
    response.end("<!doctype html><title>Welcome to our network</title><p>Please sign in.");
  };
  const server = createServer((request, response) => {
    if (mode === "portal") return portal(request, response);
    alive.add(response);
    const target = new URL(request.url ?? "/", node);
    const { method, headers } = request;
    const onward = ask(target, { method, headers: { ...headers, host: theirs } }, (answer) => {
      if (losing && method === "POST" && request.url?.endsWith(losing)) {
        losing = undefined;
        // A browser asks again by itself where not even the head of an answer came.
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        response.flushHeaders();
        return setTimeout(() => response.destroy(), 20);
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on("data", (bytes) => {
        if (mode !== "dead" && alive.has(response))
          response.write(Buffer.from(bytes.toString("latin1").replaceAll(theirs, ours), "latin1"));
      });
      answer.on("end", () => mode !== "dead" && alive.has(response) && response.end());
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => {
      alive.delete(response);
      onward.destroy();
    });
    request.pipe(onward);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  return {
    address: `http://${ours}`,
    /** From here on the way is so; with `cut`, what is connected breaks off. */
    be: (next, { cut = false } = {}) => {
      mode = next;
      if (mode === "dead") alive = new Set();
      if (cut) for (const socket of sockets) socket.destroy();
    },
    /** The next answer to a call whose path ends so is lost, when the node has made it. */
    lose: (path) => {
      losing = path;
    },
    stop: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
