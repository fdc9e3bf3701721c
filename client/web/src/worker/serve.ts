// Engines and the pages that they serve: one for each name and tenant, opened by the first page that asks.

import { HalcyonError } from "../errors";
import type { Preloaded, Settings, ToPage, ToWorker } from "../protocol";
import type { Disk } from "./disk";
import { Host, shapeOf, type Page } from "./host";

/** An engine that ends again and again is not started once more. */
const ENDS_MAX = 4;
const ENDS_WITHIN_MS = 10_000;

/** What differs between a browser and Node. */
export interface Surroundings {
  loadModule(url: string): Promise<WebAssembly.Module>;
  openDisk(settings: Settings): Promise<Disk>;
}

/** Takes what a page says. */
export type OnMessage = (message: ToWorker) => void;

export class Server {
  readonly #surroundings: Surroundings;
  readonly #hosts = new Map<string, Promise<Host>>();
  /** When engines ended. */
  readonly #ends: number[] = [];

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Serves one page. What it says before the host is open waits. */
  serve(send: (message: ToPage) => void): OnMessage {
    const page: Page = { send };
    let host: Promise<Host> | undefined;
    return (message) => {
      if (message.type === "ping") {
        send({ type: "pong" });
        return;
      }
      if (message.type === "hello") {
        const { settings, wasm, preloaded } = message;
        const isKnown = this.#hosts.has(keyOf(settings));
        host = this.#hostOf(settings, wasm, preloaded);
        host.then(
          (opened) => {
            opened.enter(page, !isKnown);
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

  /** The hosts that are open, or on their way. */
  hosts(): Promise<Host>[] {
    return [...this.#hosts.values()];
  }

  #hostOf(settings: Settings, wasm: string, preloaded: Preloaded | undefined): Promise<Host> {
    const key = keyOf(settings);
    let host = this.#hosts.get(key);
    if (!host) {
      const lately = this.#ends.filter((at) => Date.now() - at < ENDS_WITHIN_MS);
      host =
        lately.length < ENDS_MAX
          ? this.#open(settings, wasm, preloaded)
          : Promise.reject(new HalcyonError("ENGINE_FAILED", "the engine stops again and again"));
      this.#hosts.set(key, host);
      host.catch(() => this.#hosts.delete(key));
    }
    return host;
  }

  async #open(settings: Settings, wasm: string, preloaded: Preloaded | undefined): Promise<Host> {
    const module = this.#surroundings.loadModule(wasm);
    const openDisk = (): Promise<Disk> => this.#surroundings.openDisk(settings);
    return Host.open(module, settings, { openDisk, preloaded }, () => {
      this.#hosts.delete(keyOf(settings));
      this.#ends.push(Date.now());
    });
  }
}

const keyOf = (settings: Settings): string => `${settings.name}:${settings.tenant}`;
