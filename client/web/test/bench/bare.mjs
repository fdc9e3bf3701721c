// The least that stands between two browsers: a server that puts on its disk what is posted to it, and then passes it on
// to whoever listens.

import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const HEADERS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "authorization, content-type, x-grpc-web",
  "access-control-max-age": "7200",
  "content-type": "application/grpc-web+proto",
};

/** Starts on a free port; returns its origin and how to stop it. */
export async function bare() {
  const directory = mkdtempSync(join(tmpdir(), "halcyon-bare-"));
  const file = await open(join(directory, "log"), "a");
  const listeners = new Set();
  const server = createServer(async (request, response) => {
    response.writeHead(200, HEADERS);
    if (request.method === "OPTIONS") return response.end();
    if (request.url === "/listen") {
      listeners.add(response);
      response.flushHeaders();
      return;
    }
    const body = Buffer.concat(await request.toArray());
    await file.appendFile(body);
    await file.datasync();
    for (const listener of listeners) listener.write(body);
    response.end(body.subarray(0, 16));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const stop = async () => {
    for (const listener of listeners) listener.end();
    server.close();
    await file.close();
    rmSync(directory, { recursive: true });
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, stop };
}
