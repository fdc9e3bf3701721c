// @halcyon/client/node: the same client in Node. The engine runs in the process itself; local data are in memory, or in
// files of a directory.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openClient, type ClientOptions, type Db } from "../client";
import { HalcyonError } from "../errors";
import type { Port, Way } from "../link";
import { writePreloaded } from "../preloaded";
import type { Settings, ToPage } from "../protocol";
import type { Query } from "../query/query";
import type { Entities, Name, RoomShapes, Schema } from "../schema/schema";
import { MemoryDisk, NoDisk, type Disk } from "../worker/disk";
import { Server } from "../worker/serve";
import { FileDisk } from "./file";

export * from "../index";

export interface NodeOptions<S extends Entities, R extends RoomShapes = RoomShapes> extends Omit<
  ClientOptions<S, R>,
  "persistence" | "worker" | "files"
> {
  /** Where local data are kept: a directory, for one process at a time. Without it they are gone with the process. */
  readonly directory?: string;
  /** The module, if a bundler moved it. */
  readonly wasm?: URL;
}

const modules = new Map<string, Promise<WebAssembly.Module>>();

function loadModule(url: string): Promise<WebAssembly.Module> {
  let module = modules.get(url);
  if (!module) {
    module = readFile(new URL(url)).then((bytes) => WebAssembly.compile(new Uint8Array(bytes)));
    modules.set(url, module);
    module.catch(() => modules.delete(url));
  }
  return module;
}

async function openDisk({ name, tenant, directory }: Settings): Promise<Disk> {
  if (directory === undefined) return new NoDisk();
  return FileDisk.open(join(directory, `${encodeURIComponent(name)}-${encodeURIComponent(tenant)}`));
}

/** A way to an engine in this process. Messages take turns, as those of a worker do. */
function localWay(server: Server, wasm: URL): Way {
  const connect = (): Port => {
    const port: Port = {
      onmessage: null,
      postMessage: (message) => {
        // Its queries go with it, and are here when it comes again.
        if (message.type === "bye") return;
        queueMicrotask(() => {
          on(message);
        });
      },
      close: async () => {
        const hosts = await Promise.allSettled(server.hosts());
        for (const host of hosts) if (host.status === "fulfilled") await host.value.close();
      },
    };
    const on = server.serve((message) => {
      queueMicrotask(() => {
        port.onmessage?.({ data: message } as MessageEvent<ToPage>);
      });
    });
    return port;
  };
  return { connect, wasm: wasm.href };
}

const here = (): URL => new URL("./halcyon.wasm", import.meta.url);

/** Opens the client. `close` it, or the process goes on for it. */
export function createClient<const S extends Entities, const R extends RoomShapes = RoomShapes>(
  options: NodeOptions<S, R>,
): Db<S, R> {
  const server = new Server({ loadModule, openDisk });
  return openClient(options, localWay(server, options.wasm ?? here()), options.directory);
}

export interface PreloadOptions<S extends Entities, R extends RoomShapes = RoomShapes> extends Omit<
  NodeOptions<S, R>,
  "directory" | "preloaded"
> {
  /** A node that has not answered by then is done without: the page loads what is missing itself. */
  readonly deadlineMs?: number;
}

export interface Preloaded<S extends Entities, R extends RoomShapes = RoomShapes> {
  /** For the page: the option `preloaded` of its client. It may stand in a script element as it is. */
  readonly text: string;
  /** For what renders on the server: the queries' results, which move no more. */
  readonly db: Db<S, R>;
}

const DEADLINE_MS = 5_000;

type AnyQuery<S extends Entities> = { readonly [E in Name<S>]: Query<S, E, unknown> }[Name<S>];

/** Runs queries for a page that is made on a server. The page shows their rows at once and loads none of them again. */
export async function preload<const S extends Entities, const R extends RoomShapes = RoomShapes>(
  options: PreloadOptions<S, R>,
  queries: readonly AnyQuery<S>[],
): Promise<Preloaded<S, R>> {
  // Each page has an engine of its own: it must hold nothing that another user asked for.
  const server = new Server({ loadModule, openDisk: () => Promise.resolve(new MemoryDisk()) });
  const db = openClient(options, localWay(server, options.wasm ?? here()));
  const all = queries.map((query) => query as unknown as Query<S, Name<S>>);
  // They stay followed, so that `db` has their results.
  for (const query of all) db.follow(query).listen(() => undefined);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, options.deadlineMs ?? DEADLINE_MS);
  });
  try {
    await Promise.race([late, Promise.all(all.map((query) => db.query(query, { synced: true })))]);
    const [host] = await Promise.all(server.hosts());
    if (!host) throw new HalcyonError("ENGINE_FAILED", "the engine did not open");
    const { records, news } = await host.snapshot(all.map((query) => query.text));
    const told = all.map((query, at) => [query.text, news[at] ?? []] as const);
    return { text: writePreloaded(options.tenant, told, records), db };
  } finally {
    clearTimeout(timer);
    await db.close();
  }
}

export type { Schema };
