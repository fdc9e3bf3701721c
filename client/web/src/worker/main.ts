// The worker: one host for all pages of an origin. A SharedWorker where there is one; else each tab has a dedicated
// worker, one of which leads by a Web Lock, and the others reach it over a BroadcastChannel.

import { HalcyonError } from "../errors";
import type { Settings, ToPage, ToWorker } from "../protocol";
import { IndexedDbDisk, NoDisk, type Disk } from "./disk";
import { follow } from "./leader";
import { Server } from "./serve";

async function loadModule(url: string): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new HalcyonError("ENGINE_FAILED", `${url} answers ${response.status}`);
  // A browser keeps what it compiled of a stream, and begins with that the next time.
  const isNamed = response.headers.get("content-type") === "application/wasm";
  return isNamed ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

async function openDisk({ name, tenant, persistence }: Settings): Promise<Disk> {
  return persistence === "memory" ? new NoDisk() : IndexedDbDisk.open(`${name}:${tenant}`);
}

const server = new Server({ loadModule, openDisk });
const serve = server.serve.bind(server);

interface Port {
  postMessage(message: ToPage): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

function attach(port: Port): void {
  const on = serve((message) => {
    port.postMessage(message);
  });
  port.onmessage = (event) => {
    on(event.data);
  };
}

if ("SharedWorkerGlobalScope" in globalThis) {
  globalThis.addEventListener("connect", (event) => {
    const [port] = (event as MessageEvent).ports;
    if (port) attach(port);
  });
} else {
  follow(globalThis as unknown as Port, serve);
}
