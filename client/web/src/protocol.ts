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
  /** In Node: where the local data lies. Without it they are in memory alone. */
  readonly directory: string | undefined;
}

/** What another engine had: records as it would have kept them (halcyon-wasm, `disk`). */
export type Preloaded = Uint8Array;

/** How far a result can be trusted. */
export type Status =
  /** From this device; no node has been asked yet, or it does not follow the query. */
  | "local"
  /** A node has been asked; what it sends is on its way. */
  | "syncing"
  /** As the node has it, and what waits here. */
  | "synced"
  /** The node lags behind what this device has seen. */
  | "stale"
  /** No node can be reached; what was here last. */
  | "offline";

export type ConnectionState = "connecting" | "syncing" | "synced" | "offline" | "refused";

export interface Connection {
  /** `synced`: connected, and every query that is followed has the node's state. */
  readonly state: ConnectionState;
  /** It was synced at some time since the engine was opened, or what the disk kept was. */
  readonly wasSynced: boolean;
  readonly address: string | undefined;
  readonly region: string | undefined;
  /** Writes that no node has answered for. */
  readonly waiting: number;
  readonly error: ErrorShape | undefined;
}

/** A field that a write lost: to a deletion, an entity long gone, or a later write. Without `field`, all of the entity. */
export interface Superseded {
  readonly id: string;
  readonly field: string | null;
}

/** One of the others in a room; presence is JSON text. */
export interface RoomUser {
  readonly connection: string;
  readonly user: string;
  readonly presence: string;
  readonly region: string;
  /** When the connection last did something, in milliseconds since 1970. */
  readonly seen: number;
}

export interface RoomMessage {
  readonly topic: string;
  /** JSON text. */
  readonly payload: string;
  readonly from: string;
  readonly at: number | null;
  /** Sorts like the messages' timestamps. */
  readonly stamp: string;
}

/** What happened in a room. `users` came, or do something else now; a status of null is unset. */
export interface RoomNews {
  readonly room: string;
  /** This is all of it; what was known before counts no more. */
  readonly whole: boolean;
  readonly users: readonly RoomUser[];
  readonly gone: readonly string[];
  readonly status: Readonly<Record<string, string | null>>;
  readonly messages: readonly RoomMessage[];
  readonly missed: number;
}

export type ToWorker =
  | {
      readonly type: "hello";
      readonly settings: Settings;
      readonly wasm: string;
      readonly preloaded: Preloaded | undefined;
    }
  | { readonly type: "subscribe"; readonly id: number; readonly query: string }
  | { readonly type: "unsubscribe"; readonly id: number }
  | { readonly type: "write"; readonly id: number; readonly changes: string }
  /** A write that an earlier engine had put on the disk: what becomes of it? */
  | { readonly type: "expect"; readonly id: number; readonly place: number }
  | { readonly type: "network"; readonly allowed: boolean }
  | { readonly type: "auth"; readonly key: string; readonly user: string | undefined }
  /** `writes`: what the page had written before and nobody has answered for. */
  | { readonly type: "clear"; readonly id: number; readonly writes: readonly number[] }
  | { readonly type: "enter"; readonly room: string; readonly user: string; readonly presence: string }
  | { readonly type: "leave"; readonly room: string }
  | { readonly type: "presence"; readonly room: string; readonly presence: string }
  | {
      readonly type: "room-status";
      readonly room: string;
      readonly status: Readonly<Record<string, string | null>>;
    }
  | {
      readonly type: "say";
      readonly room: string;
      readonly topic: string;
      readonly payload: string;
      readonly to: readonly string[];
    }
  /** Is the worker there at all? */
  | { readonly type: "ping" }
  | { readonly type: "bye" };

export type ToPage =
  /** `tookPreloaded`: the engine began with what this page brought along. */
  | { readonly type: "opened"; readonly tookPreloaded: boolean }
  | { readonly type: "pong" }
  /** Another engine leads now and knows nobody: say everything again. `isCleared`: but no write that another page cleared. */
  | { readonly type: "restarted"; readonly isCleared?: boolean }
  | { readonly type: "failed"; readonly error: ErrorShape }
  /** Local data is not kept; everything else goes on. */
  | { readonly type: "degraded"; readonly error: ErrorShape }
  | { readonly type: "news"; readonly id: number; readonly text: string }
  | { readonly type: "refused-query"; readonly id: number; readonly error: ErrorShape }
  /** The write is on this device's disk, unless there is an error: then it is in memory alone. */
  | {
      readonly type: "written";
      readonly id: number;
      readonly place: number;
      readonly error: ErrorShape | undefined;
    }
  | {
      readonly type: "settled";
      readonly id: number;
      readonly error: ErrorShape | undefined;
      readonly superseded: readonly Superseded[];
    }
  /** A write of an earlier run, or of a page that is gone, was refused. */
  | { readonly type: "rolled-back"; readonly error: ErrorShape }
  | { readonly type: "connection"; readonly connection: Connection }
  | { readonly type: "room"; readonly news: RoomNews }
  /** This origin's connection in the room; none while no node is connected. */
  | {
      readonly type: "room-state";
      readonly room: string;
      readonly connection: string | undefined;
      readonly error: ErrorShape | undefined;
    }
  /** `writes`: what the page had written before. With an error all is as it was. */
  | {
      readonly type: "cleared";
      readonly id: number;
      readonly writes: readonly number[];
      readonly error: ErrorShape | undefined;
    }
  /** Whether the client may connect, as some page said last. */
  | { readonly type: "network"; readonly allowed: boolean };
