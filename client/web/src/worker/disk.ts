// Where the engine's records are kept: IndexedDB, or memory. A step's records are kept all or none.

import { HalcyonError } from "../errors";
import type { DiskRecord } from "./engine";

export interface Disk {
  /** Everything that is kept, in the order of stores and keys. */
  readAll(): Promise<DiskRecord[]>;
  /** Resolves when the records are kept. */
  keep(records: readonly DiskRecord[]): Promise<void>;
  clear(): Promise<void>;
  close(): void;
}

/** The format of the records. A newer one is left alone. */
const FORMAT = 1;
const STORES = ["c", "o", "m"] as const;

/** Confirmed sets lie in as many records as there were steps; from this many on they are joined into one. */
const JOIN_FROM = 256;

export class MemoryDisk implements Disk {
  readonly #kept = new Map<string, DiskRecord>();

  readAll(): Promise<DiskRecord[]> {
    return Promise.resolve([...this.#kept.values()]);
  }

  keep(records: readonly DiskRecord[]): Promise<void> {
    for (const record of records) {
      const key = `${record.store}${record.key}`;
      if (record.bytes) this.#kept.set(key, record);
      else this.#kept.delete(key);
    }
    return Promise.resolve();
  }

  clear(): Promise<void> {
    this.#kept.clear();
    return Promise.resolve();
  }

  close(): void {
    this.#kept.clear();
  }
}

function failed(error: DOMException | null, what: string): HalcyonError {
  if (error?.name === "VersionError") {
    return new HalcyonError(
      "NEWER_STORAGE",
      "a newer version of the app keeps its data here; reload the page",
    );
  }
  if (error?.name === "QuotaExceededError") {
    return new HalcyonError("STORAGE_FAILED", "the browser gives no more room for local data");
  }
  return new HalcyonError("STORAGE_FAILED", `${what}: ${error?.message ?? "the browser does not say why"}`);
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

export class IndexedDbDisk implements Disk {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  static open(name: string): Promise<IndexedDbDisk> {
    return new Promise((resolve, reject) => {
      if (typeof indexedDB === "undefined") {
        reject(
          new HalcyonError("NO_STORAGE", "this environment has no IndexedDB; use persistence: 'memory'"),
        );
        return;
      }
      const request = indexedDB.open(`halcyon:${name}`, FORMAT);
      request.onupgradeneeded = () => {
        for (const store of STORES) request.result.createObjectStore(store);
      };
      request.onerror = () => {
        reject(failed(request.error, "local data cannot be opened"));
      };
      request.onsuccess = () => {
        const database = request.result;
        // A newer version of the app wants to upgrade: let it.
        database.onversionchange = () => {
          database.close();
        };
        resolve(new IndexedDbDisk(database));
      };
    });
  }

  async readAll(): Promise<DiskRecord[]> {
    const transaction = this.#database.transaction(STORES, "readonly");
    const read = STORES.map(async (store) => {
      const keys = transaction.objectStore(store).getAllKeys();
      const values = transaction.objectStore(store).getAll();
      await new Promise<void>((resolve, reject) => {
        values.onsuccess = () => {
          resolve();
        };
        values.onerror = () => {
          reject(failed(values.error, "local data cannot be read"));
        };
      });
      return keys.result.map((key, at) => ({
        store,
        key: Number(key),
        bytes: values.result[at] as Uint8Array,
      }));
    });
    const records = (await Promise.all(read)).flat();
    const confirmed = records.filter((record) => record.store === "c");
    if (confirmed.length >= JOIN_FROM) await this.#join(confirmed);
    return records;
  }

  keep(records: readonly DiskRecord[]): Promise<void> {
    if (records.length === 0) return Promise.resolve();
    const transaction = this.#database.transaction(STORES, "readwrite", { durability: "relaxed" });
    for (const { store, key, bytes } of records) {
      if (bytes) transaction.objectStore(store).put(bytes, key);
      else transaction.objectStore(store).delete(key);
    }
    return done(transaction, "local data cannot be written");
  }

  clear(): Promise<void> {
    const transaction = this.#database.transaction(STORES, "readwrite");
    for (const store of STORES) transaction.objectStore(store).clear();
    return done(transaction, "local data cannot be cleared");
  }

  close(): void {
    this.#database.close();
  }

  /** Records of confirmed sets are lists, so one after the other they are one list. */
  #join(records: readonly DiskRecord[]): Promise<void> {
    const parts = records.map((record) => record.bytes ?? new Uint8Array());
    const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (joined.set(part, at), at + part.length), 0);
    const last = records[records.length - 1]?.key ?? 0;
    const gone = records.map((record): DiskRecord => ({ ...record, bytes: undefined }));
    return this.keep([...gone, { store: "c", key: last, bytes: joined }]);
  }
}
