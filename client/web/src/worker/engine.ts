// The Rust engine behind its door (client/wasm/src/door.rs): bytes in, bytes out, one instance for each engine.

import { HalcyonError } from "../errors";
import type { RoomNews, Status, Superseded } from "../protocol";

interface Door {
  readonly memory: WebAssembly.Memory;
  halcyon_input(length: number): number;
  halcyon_output(): number;
  halcyon_records(): number;
  halcyon_open(high: bigint, low: bigint, saves: number): number;
  halcyon_write(wall: bigint, jitter: number): number;
  halcyon_durable(upTo: bigint): number;
  halcyon_is_open(place: bigint): number;
  halcyon_follow(id: number): number;
  halcyon_unfollow(id: number): number;
  halcyon_take_news(): number;
  halcyon_take_records(): number;
  halcyon_before_push(since: bigint, wall: bigint, jitter: number): number;
  halcyon_next_push(): number;
  halcyon_on_pushed(wall: bigint, jitter: number): number;
  halcyon_on_push_failed(wall: bigint, jitter: number): number;
  halcyon_connect(): number;
  halcyon_on_event(wall: bigint, jitter: number): number;
  halcyon_on_disconnected(): number;
  halcyon_forget_session(): number;
  halcyon_next_call(jitter: number): number;
  halcyon_on_subscribed(number: number): number;
  halcyon_on_subscribe_failed(number: number): number;
  halcyon_held(): number;
  halcyon_on_held(): number;
  halcyon_at_node(node: bigint, wall: bigint, driftMaxMs: bigint): number;
  halcyon_waiting(): number;
  halcyon_fingerprint(): number;
  halcyon_room_call(kind: number): number;
  halcyon_room_news(): number;
  halcyon_room_left(): number;
  halcyon_on_entered(): number;
  halcyon_hello(): number;
  halcyon_on_hello(): number;
  halcyon_locate(): number;
  halcyon_on_located(): number;
  halcyon_error(): number;
}

/** One thing to keep on disk, or to keep no longer (halcyon-wasm, `disk`). */
export interface DiskRecord {
  /** A letter. */
  readonly store: string;
  readonly key: Uint8Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer> | undefined;
}

/** A refusal that a node gave. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

export interface Replica {
  readonly node: string;
  readonly region: string;
  readonly address: string;
  readonly serving: boolean;
}

/** What a node said when it was greeted. */
export interface Greeting {
  readonly node: string;
  readonly region: string;
  /** Its clock, 64-bit NTP time in decimal; "0" where it did not say. */
  readonly wall: string;
  readonly driftMaxMs: string;
}

/** What a push came to. */
export interface Pushed {
  readonly settled: readonly {
    readonly place: number;
    readonly error?: Refusal;
    readonly superseded?: readonly Superseded[];
  }[];
  /** Sets got a new timestamp: they must be on the disk before the next push. */
  readonly rewritten: boolean;
  readonly next: {
    readonly do: "go" | "wait" | "leave" | "move" | "blocked";
    readonly ms: number;
    readonly error?: Refusal;
  };
}

/** A call to make beside the session's stream. */
export interface Call {
  readonly path: "Sessions/Subscribe" | "Sessions/Unsubscribe";
  readonly subscription: number;
  readonly waitMs: number;
  readonly body: Uint8Array;
}

/** What an event of the session asks for. */
export interface Asks {
  /** The stream must be opened anew. */
  readonly reopen: boolean;
  /** The session is open: rooms are to be entered. */
  readonly opened: boolean;
  readonly room: boolean;
}

/** Calls about rooms, in the order of their numbers (halcyon-wasm, `room`). */
const ROOM_CALLS = ["EnterRoom", "LeaveRoom", "SetPresence", "SetRoomStatus", "SendRoomMessage"] as const;
export type RoomCall = (typeof ROOM_CALLS)[number];

/** In the order of their numbers (halcyon-wasm, `news`). */
const STATUSES = ["local", "syncing", "synced", "stale", "offline"] as const;

export interface NewsFrame {
  readonly id: number;
  /** Where it changed. */
  readonly status: Status | undefined;
  readonly text: string;
  /** The next part of the answer is to be taken at once. */
  readonly hasMore: boolean;
}

/** In the place of a status' number. */
const MORE = 254;

const NOTHING = new Uint8Array();
const toBytes = new TextEncoder();
const toText = new TextDecoder();

/** What makes one engine differ from another. Only tests give it. */
export interface World {
  /** 128 random bits, in two halves. */
  readonly client: readonly [bigint, bigint];
  readonly now: () => bigint;
}

function draw(): World {
  const [high = 1n, low = 1n] = crypto.getRandomValues(new BigUint64Array(2));
  return { client: [high, low], now: () => BigInt(Date.now()) };
}

const jitter = (): number => Math.floor(Math.random() * 2 ** 32);

/** What a disk holds, as the engine reads it. */
export function packRecords(records: readonly DiskRecord[]): Uint8Array<ArrayBuffer> {
  const sizes = records.map(({ key, bytes }) => 8 + key.length + (bytes?.length ?? 0));
  const packed = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(packed.buffer);
  let at = 0;
  for (const record of records) {
    const { store, key, bytes = NOTHING } = record;
    packed[at] = store.charCodeAt(0);
    packed[at + 1] = record.bytes ? 1 : 0;
    view.setUint16(at + 2, key.length);
    view.setUint32(at + 4, bytes.length);
    packed.set(key, at + 8);
    packed.set(bytes, at + 8 + key.length);
    at += 8 + key.length + bytes.length;
  }
  return packed;
}

/** The other way. The records share the bytes that they were read from. */
export function unpackRecords(bytes: Uint8Array<ArrayBuffer>): DiskRecord[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: DiskRecord[] = [];
  for (let at = 0; at < bytes.length;) {
    const from = at + 8 + view.getUint16(at + 2);
    const end = from + view.getUint32(at + 4);
    records.push({
      store: String.fromCharCode(bytes[at] ?? 0),
      key: bytes.subarray(at + 8, from),
      bytes: bytes[at + 1] === 1 ? bytes.subarray(from, end) : undefined,
    });
    at = end;
  }
  return records;
}

export class Engine {
  readonly #door: Door;
  readonly #now: () => bigint;
  /** Sets that an earlier run left on the disk and this release cannot read. */
  unreadable = 0;
  /** It is in no state to go on; told once. */
  onCrash: (error: HalcyonError) => void = () => undefined;

  private constructor(door: Door, world: World) {
    this.#door = door;
    this.#now = world.now;
  }

  /**
   * A new engine for a tenant, with the packed records that a disk kept: of those with one key the last counts. Every
   * opening is a client incarnation of its own.
   */
  static async open(
    module: WebAssembly.Module,
    tenant: string,
    disk?: readonly Uint8Array[],
    world: World = draw(),
  ): Promise<Engine> {
    const { exports } = await WebAssembly.instantiate(module);
    let crash: HalcyonError | undefined;
    const guarded = Object.entries(exports).map(([name, item]) => [
      name,
      typeof item !== "function"
        ? item
        : (...args: unknown[]): unknown => {
            if (crash) throw crash;
            try {
              return (item as (...args: unknown[]) => unknown)(...args);
            } catch (error) {
              crash = new HalcyonError("ENGINE_FAILED", `the engine has stopped: ${String(error)}`);
              engine.onCrash(crash);
              throw crash;
            }
          },
    ]);
    const engine = new Engine(Object.fromEntries(guarded) as Door, world);
    engine.#put(...(disk ?? []));
    engine.#take(engine.#door.halcyon_records());
    engine.#put(toBytes.encode(tenant));
    const opened = engine.#take(engine.#door.halcyon_open(...world.client, disk ? 1 : 0));
    engine.unreadable = Number(toText.decode(opened));
    return engine;
  }

  /** Shows a write; returns its place in the outbox. */
  write(changes: string): number {
    this.#put(toBytes.encode(changes));
    const length = this.#door.halcyon_write(this.#now(), jitter());
    return Number(toText.decode(this.#take(length, "INVALID_WRITE")));
  }

  durable(upTo: number): void {
    this.#take(this.#door.halcyon_durable(BigInt(upTo)));
  }

  /** Whether no node has answered for the write at this place. */
  isOpen(place: number): boolean {
    return this.#take(this.#door.halcyon_is_open(BigInt(place))).length > 0;
  }

  follow(id: number, query: string): void {
    this.#put(toBytes.encode(query));
    this.#take(this.#door.halcyon_follow(id), "QUERY_FAILED");
  }

  unfollow(id: number): void {
    this.#take(this.#door.halcyon_unfollow(id));
  }

  /** What is new; a long answer in parts, so that a page reads one while the next is written. */
  takeNews(): NewsFrame[] {
    const bytes = this.#take(this.#door.halcyon_take_news());
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const frames: NewsFrame[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 9 + view.getUint32(at + 4);
      const status = bytes[at + 8] ?? STATUSES.length;
      frames.push({
        id: view.getUint32(at),
        status: STATUSES[status],
        text: toText.decode(bytes.subarray(at + 9, end)),
        hasMore: status === MORE,
      });
      at = end;
    }
    return frames;
  }

  takeRecords(): DiskRecord[] {
    return unpackRecords(this.#take(this.#door.halcyon_take_records()));
  }

  /**
   * Stamps again what was never pushed and the node would refuse by its clock, as it was when it was greeted so long
   * ago; what waits counts as pushed from here on. Says whether anything changed: then it must be on the disk before the
   * next push.
   */
  beforePush(sinceMs: number): boolean {
    const since = BigInt(Math.max(0, Math.floor(sinceMs)));
    return this.#take(this.#door.halcyon_before_push(since, this.#now(), jitter())).length > 0;
  }

  nextPush(): Uint8Array {
    return this.#take(this.#door.halcyon_next_push());
  }

  onPushed(body: Uint8Array): Pushed {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_pushed(this.#now(), jitter())) as Pushed;
  }

  /** The push under way has no answer, or was refused as a whole. */
  onPushFailed(details: Uint8Array): Pushed {
    this.#put(details);
    return this.#json(this.#door.halcyon_on_push_failed(this.#now(), jitter())) as Pushed;
  }

  connect(): Uint8Array {
    return this.#take(this.#door.halcyon_connect());
  }

  onEvent(body: Uint8Array): Asks {
    this.#put(body);
    const [asks = 0] = this.#take(this.#door.halcyon_on_event(this.#now(), jitter()));
    return { reopen: (asks & 1) !== 0, opened: (asks & 2) !== 0, room: (asks & 4) !== 0 };
  }

  onDisconnected(): void {
    this.#take(this.#door.halcyon_on_disconnected());
  }

  /** While no stream is open. */
  forgetSession(): void {
    this.#take(this.#door.halcyon_forget_session());
  }

  nextCall(): Call | undefined {
    const bytes = this.#take(this.#door.halcyon_next_call(jitter()));
    if (bytes.length === 0) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return {
      path: bytes[0] === 0 ? "Sessions/Subscribe" : "Sessions/Unsubscribe",
      subscription: view.getUint32(1),
      waitMs: view.getUint32(5),
      body: bytes.subarray(9),
    };
  }

  /** Whether the stream must be opened anew. */
  onSubscribed(subscription: number, body: Uint8Array): boolean {
    this.#put(body);
    return this.#take(this.#door.halcyon_on_subscribed(subscription))[0] === 1;
  }

  onSubscribeFailed(subscription: number, details: Uint8Array): boolean {
    this.#put(details);
    return this.#take(this.#door.halcyon_on_subscribe_failed(subscription))[0] === 1;
  }

  /** The body of `Held`; empty while nothing waits for a second replica. */
  held(): Uint8Array {
    return this.#take(this.#door.halcyon_held());
  }

  onHeld(body: Uint8Array): void {
    this.#put(body);
    this.#take(this.#door.halcyon_on_held());
  }

  atNode({ node, wall, driftMaxMs }: Greeting): void {
    this.#take(this.#door.halcyon_at_node(BigInt(node), BigInt(wall), BigInt(driftMaxMs)));
  }

  waiting(): number {
    return Number(toText.decode(this.#take(this.#door.halcyon_waiting())));
  }

  fingerprint(): string {
    return toText.decode(this.#take(this.#door.halcyon_fingerprint()));
  }

  /** The body of a call about a room. */
  roomCall(call: RoomCall, about: object): Uint8Array {
    this.#put(toBytes.encode(JSON.stringify(about)));
    return this.#take(this.#door.halcyon_room_call(ROOM_CALLS.indexOf(call)));
  }

  roomNews(): RoomNews[] {
    return this.#json(this.#door.halcyon_room_news()) as RoomNews[];
  }

  roomLeft(room: string): void {
    this.#put(toBytes.encode(room));
    this.#take(this.#door.halcyon_room_left());
  }

  /** This origin's name in a room that was entered. */
  onEntered(body: Uint8Array): string {
    this.#put(body);
    return toText.decode(this.#take(this.#door.halcyon_on_entered()));
  }

  hello(): Uint8Array {
    return this.#take(this.#door.halcyon_hello());
  }

  onHello(body: Uint8Array): Greeting {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_hello()) as Greeting;
  }

  locate(): Uint8Array {
    return this.#take(this.#door.halcyon_locate());
  }

  onLocated(body: Uint8Array): readonly Replica[] {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_located()) as Replica[];
  }

  /** The refusal in a status' details. */
  refusal(details: Uint8Array): Refusal | undefined {
    this.#put(details);
    return (this.#json(this.#door.halcyon_error()) as Refusal | null) ?? undefined;
  }

  #put(...parts: readonly Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    let at = this.#door.halcyon_input(length);
    for (const part of parts) {
      new Uint8Array(this.#door.memory.buffer, at, part.length).set(part);
      at += part.length;
    }
  }

  #take(
    length: number,
    code: "ENGINE_FAILED" | "INVALID_WRITE" | "QUERY_FAILED" = "ENGINE_FAILED",
  ): Uint8Array<ArrayBuffer> {
    const at = this.#door.halcyon_output();
    const bytes = new Uint8Array(this.#door.memory.buffer, at, Math.abs(length)).slice();
    if (length < 0) throw new HalcyonError(code, toText.decode(bytes));
    return bytes;
  }

  #json(length: number): unknown {
    return JSON.parse(toText.decode(this.#take(length))) as unknown;
  }
}
