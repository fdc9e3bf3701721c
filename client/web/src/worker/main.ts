// The worker: one host for all pages of an origin. A SharedWorker where there is one; else each tab has a dedicated
// worker, one of which leads by a Web Lock, and the others reach it over a BroadcastChannel.

import { HalcyonError } from "../errors";
import type { Settings, ToPage, ToWorker } from "../protocol";
import { Host, shapeOf, type Page } from "./host";
import { follow } from "./leader";

const hosts = new Map<string, Promise<Host>>();

/** When engines ended. One that ends again and again is not started once more. */
const ends: number[] = [];
const ENDS_MAX = 4;
const ENDS_WITHIN_MS = 10_000;

async function loadModule(url: string): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new HalcyonError("ENGINE_FAILED", `${url} answers ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

async function openHost(settings: Settings, wasm: string, onEnd: () => void): Promise<Host> {
  return Host.open(await loadModule(wasm), settings, onEnd);
}

function hostOf(settings: Settings, wasm: string): Promise<Host> {
  const key = `${settings.name}:${settings.tenant}`;
  let host = hosts.get(key);
  if (!host) {
    const lately = ends.filter((at) => Date.now() - at < ENDS_WITHIN_MS);
    host =
      lately.length < ENDS_MAX
        ? openHost(settings, wasm, () => {
            hosts.delete(key);
            ends.push(Date.now());
          })
        : Promise.reject(new HalcyonError("ENGINE_FAILED", "the engine stops again and again"));
    hosts.set(key, host);
    host.catch(() => hosts.delete(key));
  }
  return host;
}

/** Serves one page. What it says before the host is open waits. */
export function serve(send: (message: ToPage) => void): (message: ToWorker) => void {
  const page: Page = { send };
  let host: Promise<Host> | undefined;
  return (message) => {
    if (message.type === "ping") {
      send({ type: "pong" });
      return;
    }
    if (message.type === "hello") {
      host = hostOf(message.settings, message.wasm);
      host.then(
        (opened) => {
          opened.enter(page);
        },
        (error: unknown) => {
          send({ type: "failed", error: shapeOf(error) });
        },
      );
      return;
    }
    host?.then(
      (opened) => {
        opened.on(page, message);
      },
      () => undefined,
    );
  };
}

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
