// The Rust engine behind its door (client/wasm/src/door.rs): bytes in, bytes out, one instance for each engine.

import { HalcyonError } from "../errors";

interface Door {
  readonly memory: WebAssembly.Memory;
  halcyon_input(length: number): number;
  halcyon_output(): number;
  halcyon_open(high: bigint, low: bigint): number;
  halcyon_restore(store: number, key: bigint): number;
  halcyon_write(wall: bigint): number;
  halcyon_durable(upTo: bigint): number;
  halcyon_subscribe(id: number): number;
  halcyon_unsubscribe(id: number): number;
  halcyon_entity(): number;
  halcyon_next_push(): number;
  halcyon_on_pushed(): number;
  halcyon_on_push_refused(): number;
  halcyon_watch(): number;
  halcyon_on_watched(wall: bigint): number;
  halcyon_take_news(): number;
  halcyon_take_records(): number;
  halcyon_waiting(): number;
  halcyon_fingerprint(): number;
  halcyon_hello(): number;
  halcyon_on_hello(): number;
  halcyon_locate(): number;
  halcyon_on_located(): number;
  halcyon_error(): number;
}

/** One thing to keep on disk, or to keep no longer (halcyon-wasm, `record`). */
export interface DiskRecord {
  readonly store: string;
  readonly key: number;
  readonly bytes: Uint8Array | undefined;
}

/** A refusal that a node gave. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | null;
  readonly replicas: readonly Replica[];
}

export interface Replica {
  readonly node: string;
  readonly region: string;
  readonly address: string;
  readonly serving: boolean;
}

export interface Pushed {
  readonly settled: readonly { readonly place: number; readonly error?: Refusal }[];
  readonly wait?: Refusal;
  readonly blocked?: Refusal;
}

export interface NewsFrame {
  readonly id: number;
  readonly text: string;
}

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

export class Engine {
  readonly #door: Door;
  readonly #now: () => bigint;

  private constructor(door: Door, world: World) {
    this.#door = door;
    this.#now = world.now;
  }

  /** A new engine for a tenant. Every opening is a client incarnation of its own. */
  static async open(module: WebAssembly.Module, tenant: string, world: World = draw()): Promise<Engine> {
    const instance = await WebAssembly.instantiate(module);
    const engine = new Engine(instance.exports as unknown as Door, world);
    engine.#put(toBytes.encode(tenant));
    engine.#take(engine.#door.halcyon_open(...world.client));
    return engine;
  }

  restore(record: DiskRecord): void {
    this.#put(record.bytes ?? NOTHING);
    this.#take(this.#door.halcyon_restore(record.store.charCodeAt(0), BigInt(record.key)));
  }

  /** Shows a write; returns its place in the outbox. */
  write(changes: string): number {
    this.#put(toBytes.encode(changes));
    return Number(toText.decode(this.#take(this.#door.halcyon_write(this.#now()), "INVALID_WRITE")));
  }

  durable(upTo: number): void {
    this.#take(this.#door.halcyon_durable(BigInt(upTo)));
  }

  subscribe(id: number, query: string): void {
    this.#put(toBytes.encode(query));
    this.#take(this.#door.halcyon_subscribe(id), "QUERY_FAILED");
  }

  unsubscribe(id: number): void {
    this.#take(this.#door.halcyon_unsubscribe(id));
  }

  nextPush(): Uint8Array {
    return this.#take(this.#door.halcyon_next_push());
  }

  onPushed(body: Uint8Array): Pushed {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_pushed()) as Pushed;
  }

  /** The push under way has no answer, or was refused as a whole. */
  onPushRefused(details: Uint8Array): Pushed {
    this.#put(details);
    return this.#json(this.#door.halcyon_on_push_refused()) as Pushed;
  }

  watch(): Uint8Array {
    return this.#take(this.#door.halcyon_watch());
  }

  /** Whether the confirmed state is up to date now. */
  onWatched(body: Uint8Array): boolean {
    this.#put(body);
    return this.#take(this.#door.halcyon_on_watched(this.#now())).length > 0;
  }

  takeNews(): NewsFrame[] {
    const bytes = this.#take(this.#door.halcyon_take_news());
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const frames: NewsFrame[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 8 + view.getUint32(at + 4);
      frames.push({ id: view.getUint32(at), text: toText.decode(bytes.subarray(at + 8, end)) });
      at = end;
    }
    return frames;
  }

  takeRecords(): DiskRecord[] {
    const bytes = this.#take(this.#door.halcyon_take_records());
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const records: DiskRecord[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 14 + view.getUint32(at + 10);
      const kept = bytes[at + 1] === 1 ? bytes.slice(at + 14, end) : undefined;
      records.push({
        store: String.fromCharCode(bytes[at] ?? 0),
        key: Number(view.getBigUint64(at + 2)),
        bytes: kept,
      });
      at = end;
    }
    return records;
  }

  waiting(): number {
    return Number(toText.decode(this.#take(this.#door.halcyon_waiting())));
  }

  fingerprint(): string {
    return toText.decode(this.#take(this.#door.halcyon_fingerprint()));
  }

  hello(): Uint8Array {
    return this.#take(this.#door.halcyon_hello());
  }

  onHello(body: Uint8Array): { readonly node: string; readonly region: string } {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_hello()) as { node: string; region: string };
  }

  locate(tenant: string): Uint8Array {
    this.#put(toBytes.encode(tenant));
    return this.#take(this.#door.halcyon_locate());
  }

  onLocated(body: Uint8Array): { readonly tenant: string; readonly replicas: readonly Replica[] } {
    this.#put(body);
    return this.#json(this.#door.halcyon_on_located()) as { tenant: string; replicas: Replica[] };
  }

  /** The refusal in a status' details. */
  refusal(details: Uint8Array): Refusal | undefined {
    this.#put(details);
    return (this.#json(this.#door.halcyon_error()) as Refusal | null) ?? undefined;
  }

  #put(bytes: Uint8Array): void {
    const at = this.#door.halcyon_input(bytes.length);
    new Uint8Array(this.#door.memory.buffer, at, bytes.length).set(bytes);
  }

  #take(
    length: number,
    code: "ENGINE_FAILED" | "INVALID_WRITE" | "QUERY_FAILED" = "ENGINE_FAILED",
  ): Uint8Array {
    const bytes = new Uint8Array(
      this.#door.memory.buffer,
      this.#door.halcyon_output(),
      Math.abs(length),
    ).slice();
    if (length < 0) throw new HalcyonError(code, toText.decode(bytes));
    return bytes;
  }

  #json(length: number): unknown {
    return JSON.parse(toText.decode(this.#take(length))) as unknown;
  }
}
