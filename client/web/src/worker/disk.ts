// Where the engine's records are kept: IndexedDB, or nowhere. A step's records are kept all or none.

import { HalcyonError } from "../errors";
import type { DiskRecord } from "./engine";

export interface Disk {
  /** Everything that is kept. None: nothing is kept here, and nothing need be said to be. */
  readAll(): Promise<DiskRecord[] | undefined>;
  /** Resolves when the records are kept. */
  keep(records: readonly DiskRecord[]): Promise<void>;
  clear(): Promise<void>;
  close(): void | Promise<void>;
}

/** The format of the records. A newer one is left alone; of an older one only what waits for a node is taken over. */
const FORMAT = 2;

/** One store for each letter that a record has: facts, coverage, queries, written, sets, numbers. */
const STORES = ["f", "v", "q", "w", "s", "n"] as const;

/** The stores of format 1: confirmed change sets, the outbox by numbers, and single things. */
const OLD_STORES = ["c", "o", "m"] as const;
const OLD_CLOCK = 2;

/** Keeps nothing. */
export class NoDisk implements Disk {
  readAll(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  keep(): Promise<void> {
    return Promise.resolve();
  }

  clear(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    // There is nothing to close.
  }
}

const newer = (): HalcyonError =>
  new HalcyonError("NEWER_STORAGE", "a newer version of the app keeps its data here; reload the page");

function failed(error: unknown, what: string): HalcyonError {
  const { name, message } =
    error instanceof DOMException || error instanceof Error
      ? error
      : { name: "", message: "the browser does not say why" };
  if (name === "VersionError") return newer();
  if (name === "QuotaExceededError") {
    return new HalcyonError("STORAGE_FULL", "the browser gives no more room for local data");
  }
  return new HalcyonError("STORAGE_FAILED", `${what}: ${message}`);
}

function done(transaction: IDBTransaction, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => {
      resolve();
    };
    transaction.onabort = transaction.onerror = () => {
      reject(failed(transaction.error, what));
    };
  });
}

/** What the outbox of format 1 held is pushed by this format's engine; all else comes again from a node. */
function takeOver(transaction: IDBTransaction): void {
  const [, outbox, single] = OLD_STORES.map((store) => transaction.objectStore(store));
  if (!outbox || !single) return;
  const keys = outbox.getAllKeys();
  const sets = outbox.getAll();
  const clock = single.get(OLD_CLOCK);
  clock.onsuccess = () => {
    for (const [at, place] of keys.result.entries()) {
      const key = new Uint8Array(8);
      new DataView(key.buffer).setBigUint64(0, BigInt(Number(place)));
      transaction.objectStore("s").put(sets.result[at], key);
    }
    if (clock.result) transaction.objectStore("n").put(clock.result, new TextEncoder().encode("stamped"));
    for (const store of OLD_STORES) transaction.db.deleteObjectStore(store);
  };
}

export class IndexedDbDisk implements Disk {
  readonly #database: IDBDatabase;
  #isOutdated = false;

  private constructor(database: IDBDatabase) {
    this.#database = database;
    // A newer version of the app wants to upgrade: let it.
    database.onversionchange = () => {
      this.#isOutdated = true;
      database.close();
    };
  }

  static open(name: string): Promise<IndexedDbDisk> {
    return new Promise((resolve, reject) => {
      if (typeof indexedDB === "undefined") {
        reject(new HalcyonError("NO_STORAGE", "this environment has no IndexedDB"));
        return;
      }
      const request = indexedDB.open(`halcyon:${name}`, FORMAT);
      request.onupgradeneeded = ({ oldVersion }) => {
        for (const store of STORES) request.result.createObjectStore(store);
        if (oldVersion === 1 && request.transaction) takeOver(request.transaction);
      };
      request.onerror = () => {
        reject(failed(request.error, "local data cannot be opened"));
      };
      request.onsuccess = () => {
        resolve(new IndexedDbDisk(request.result));
      };
    });
  }

  async readAll(): Promise<DiskRecord[]> {
    const what = "local data cannot be read";
    const transaction = this.#begin("readonly", what);
    const reads = STORES.map((store) => ({
      store,
      keys: transaction.objectStore(store).getAllKeys(),
      values: transaction.objectStore(store).getAll(),
    }));
    await done(transaction, what);
    return reads.flatMap(({ store, keys, values }) =>
      keys.result.map((key, at) => ({
        store,
        key: new Uint8Array(key as ArrayBuffer),
        bytes: values.result[at] as Uint8Array<ArrayBuffer>,
      })),
    );
  }

  async keep(records: readonly DiskRecord[]): Promise<void> {
    if (records.length === 0) return;
    const what = "local data cannot be written";
    const transaction = this.#begin("readwrite", what);
    const stores = new Map(STORES.map((store) => [store as string, transaction.objectStore(store)]));
    for (const { store, key, bytes } of records) {
      if (bytes) stores.get(store)?.put(bytes, key);
      else stores.get(store)?.delete(key);
    }
    await done(transaction, what);
  }

  async clear(): Promise<void> {
    const what = "local data cannot be cleared";
    const transaction = this.#begin("readwrite", what);
    for (const store of STORES) transaction.objectStore(store).clear();
    await done(transaction, what);
  }

  close(): void {
    this.#database.close();
  }

  #begin(mode: IDBTransactionMode, what: string): IDBTransaction {
    if (this.#isOutdated) throw newer();
    try {
      return this.#database.transaction(STORES, mode, { durability: "relaxed" });
    } catch (error) {
      throw failed(error, what);
    }
  }
}

/** Keeps everything in memory, for as long as it is there. */
export class MemoryDisk implements Disk {
  readonly #records = new Map<string, DiskRecord>();

  readAll(): Promise<DiskRecord[]> {
    return Promise.resolve([...this.#records.values()]);
  }

  keep(records: readonly DiskRecord[]): Promise<void> {
    for (const record of records) {
      const key = `${record.store}${record.key.join()}`;
      if (record.bytes) this.#records.set(key, record);
      else this.#records.delete(key);
    }
    return Promise.resolve();
  }

  clear(): Promise<void> {
    this.#records.clear();
    return Promise.resolve();
  }

  close(): void {
    // There is nothing to close.
  }
}
