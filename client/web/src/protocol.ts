// What pages and the engine's worker say to each other.

import type { ErrorShape } from "./errors";

/** What it takes to reach a tenant. */
export interface Settings {
  readonly tenant: string;
  readonly endpoints: readonly string[];
  /** The tenant's access key. */
  readonly key: string;
  /** The app's user, as the tenant's rules see it. */
  readonly user: string | undefined;
  /** The name of the local data: pages with one name share it. */
  readonly name: string;
  readonly persistence: "indexeddb" | "memory";
}

export type ConnectionState = "connecting" | "syncing" | "synced" | "offline" | "refused";

export interface Connection {
  readonly state: ConnectionState;
  /** It was up to date at some time since the engine was opened, or what the disk kept was. */
  readonly wasSynced: boolean;
  readonly address: string | undefined;
  readonly region: string | undefined;
  /** Writes that no node has answered for. */
  readonly waiting: number;
  readonly error: ErrorShape | undefined;
}

export type ToWorker =
  | { readonly type: "hello"; readonly settings: Settings; readonly wasm: string }
  | { readonly type: "subscribe"; readonly id: number; readonly query: string }
  | { readonly type: "unsubscribe"; readonly id: number }
  | { readonly type: "write"; readonly id: number; readonly changes: string }
  | { readonly type: "network"; readonly allowed: boolean }
  | { readonly type: "auth"; readonly key: string; readonly user: string | undefined }
  | { readonly type: "clear"; readonly id: number }
  | { readonly type: "bye" };

export type ToPage =
  | { readonly type: "opened" }
  /** Another worker leads now and knows nobody: say everything again. */
  | { readonly type: "restarted" }
  | { readonly type: "failed"; readonly error: ErrorShape }
  | { readonly type: "news"; readonly id: number; readonly text: string }
  | { readonly type: "refused-query"; readonly id: number; readonly error: ErrorShape }
  /** The write shows, and is on this device's disk. */
  | { readonly type: "written"; readonly id: number }
  | { readonly type: "settled"; readonly id: number; readonly error: ErrorShape | undefined }
  /** A write of an earlier run, or of a page that is gone, was refused. */
  | { readonly type: "rolled-back"; readonly error: ErrorShape }
  | { readonly type: "connection"; readonly connection: Connection }
  | { readonly type: "cleared"; readonly id: number };
