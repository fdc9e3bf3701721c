// The worker: one host for all pages of an origin. A SharedWorker where there is one; else each tab has a dedicated
// worker, one of which leads by a Web Lock, and the others reach it over a BroadcastChannel.

import { HalcyonError, type ErrorShape } from "../errors";
import type { Settings, ToPage, ToWorker } from "../protocol";
import { Host, type Page } from "./host";
import { follow } from "./leader";

const hosts = new Map<string, Promise<Host>>();

async function loadModule(url: string): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new HalcyonError("ENGINE_FAILED", `${url} answers ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

async function openHost(settings: Settings, wasm: string): Promise<Host> {
  return Host.open(await loadModule(wasm), settings);
}

function hostOf(settings: Settings, wasm: string): Promise<Host> {
  const key = `${settings.name}:${settings.tenant}`;
  let host = hosts.get(key);
  if (!host) {
    host = openHost(settings, wasm);
    hosts.set(key, host);
    host.catch(() => hosts.delete(key));
  }
  return host;
}

function shapeOf(error: unknown): ErrorShape {
  if (error instanceof HalcyonError) return { code: error.code, message: error.message };
  return { code: "ENGINE_FAILED", message: error instanceof Error ? error.message : String(error) };
}

/** Serves one page. What it says before the host is open waits. */
export function serve(send: (message: ToPage) => void): (message: ToWorker) => void {
  const page: Page = { send };
  let host: Promise<Host> | undefined;
  return (message) => {
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
