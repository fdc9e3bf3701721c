// Where the engine's records are kept: IndexedDB, or nowhere. A step's records are kept all or none.

import { HalcyonError } from "../errors";
import { packRecords, unpackRecords, type DiskRecord } from "./engine";

/** What a disk has: packed records. Of those with one key the last counts. */
export interface Kept {
  readonly packed: readonly Uint8Array<ArrayBuffer>[];
  /** Whether entities are among them. */
  readonly hasFacts: boolean;
  readonly hasQueries: boolean;
}

export interface Disk {
  /** Everything that is kept. None: nothing is kept here, and nothing need be said to be. */
  readAll(): Promise<Kept | undefined>;
  /** Resolves when the records are kept. */
  keep(records: readonly DiskRecord[]): Promise<void>;
  clear(): Promise<void>;
  close(): void | Promise<void>;
}

/** The format of the records. A newer one is left alone; of the first one only what waits for a node is taken over. */
const FORMAT = 3;

/** One store for each letter that a record has, where there are few: queries, written, sets, numbers. */
const STORES = ["q", "w", "s", "n"] as const;

/**
 * Records of which there are many, facts and coverage, as a log: packed, one value for many of them, as they came. To
 * read and to write so many values one by one takes the browser ten times as long.
 */
const LOG = "l";
const LOGGED = ["f", "v"] as const;

/** A browser puts what is larger into files of their own. */
const VALUE_BYTES = 60_000;

/** The log is written anew, without what does not count any more, when it has doubled since, and grown by this much. */
const GROWS_MIN = 16 << 20;
/** How long it was then, under the key 0. */
const LOG_LENGTH = "b";
const ALL_STORES = [...STORES, LOG, LOG_LENGTH];

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

/** What format 2 had in stores of their own goes into the log. */
function takeIntoLog(transaction: IDBTransaction): void {
  for (const store of LOGGED) {
    const keys = transaction.objectStore(store).getAllKeys();
    const values = transaction.objectStore(store).getAll();
    values.onsuccess = () => {
      append(transaction, recordsOf(store, keys.result, values.result));
      transaction.db.deleteObjectStore(store);
    };
  }
}

const recordsOf = (store: string, keys: IDBValidKey[], values: unknown[]): DiskRecord[] =>
  keys.map((key, at) => ({
    store,
    key: new Uint8Array(key as ArrayBuffer),
    bytes: values[at] as Uint8Array<ArrayBuffer>,
  }));

/** Appends records to the log; answers with how many bytes that is. */
function append(transaction: IDBTransaction, records: readonly DiskRecord[]): number {
  const log = transaction.objectStore(LOG);
  let length = 0;
  for (let from = 0; from < records.length;) {
    let [bytes, to] = [0, from];
    for (; to < records.length && (to === from || bytes < VALUE_BYTES); to += 1) {
      bytes += (records[to]?.key.length ?? 0) + (records[to]?.bytes?.length ?? 0) + 8;
    }
    log.add(packRecords(records.slice(from, to)));
    length += bytes;
    from = to;
  }
  return length;
}

/** Of records with one key the last, in the place of the first; none that take a key away. */
function latest(records: readonly DiskRecord[]): DiskRecord[] {
  const last = new Map(records.map((record) => [`${record.store}${record.key.join()}`, record]));
  return [...last.values()].filter(({ bytes }) => bytes);
}

export class IndexedDbDisk implements Disk {
  readonly #database: IDBDatabase;
  #isOutdated = false;
  /** Bytes of the log: when it was written anew, and since. */
  #length = 0;
  #grown = 0;

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
        const { result: database, transaction } = request;
        if (oldVersion < 2) for (const store of STORES) database.createObjectStore(store);
        database.createObjectStore(LOG, { autoIncrement: true });
        database.createObjectStore(LOG_LENGTH);
        if (oldVersion === 1 && transaction) takeOver(transaction);
        if (oldVersion === 2 && transaction) takeIntoLog(transaction);
      };
      request.onerror = () => {
        reject(failed(request.error, "local data cannot be opened"));
      };
      request.onsuccess = () => {
        resolve(new IndexedDbDisk(request.result));
      };
    });
  }

  async readAll(): Promise<Kept> {
    const what = "local data cannot be read";
    const transaction = this.#begin("readonly", what);
    const log = transaction.objectStore(LOG).getAll() as IDBRequest<Uint8Array<ArrayBuffer>[]>;
    const shortened = transaction.objectStore(LOG_LENGTH).get(0);
    const reads = STORES.map((store) => ({
      store,
      keys: transaction.objectStore(store).getAllKeys(),
      values: transaction.objectStore(store).getAll(),
    }));
    await done(transaction, what);
    const few = reads.flatMap(({ store, keys, values }) => recordsOf(store, keys.result, values.result));
    this.#length = (shortened.result as number | undefined) ?? 0;
    this.#grown = log.result.reduce((sum, { length }) => sum + length, -this.#length);
    return {
      packed: [packRecords(few), ...log.result],
      hasFacts: log.result.length > 0,
      hasQueries: few.some(({ store }) => store === "q"),
    };
  }

  async keep(records: readonly DiskRecord[]): Promise<void> {
    if (records.length === 0) return;
    const what = "local data cannot be written";
    const transaction = this.#begin("readwrite", what);
    const stores = new Map(STORES.map((store) => [store as string, transaction.objectStore(store)]));
    const logged = records.filter(({ store }) => !stores.has(store));
    for (const { store, key, bytes } of records) {
      // A part of a buffer would be kept with all of it.
      if (bytes) stores.get(store)?.put(bytes.slice(), key.slice());
      else stores.get(store)?.delete(key.slice());
    }
    const length = append(transaction, logged);
    await done(transaction, what);
    this.#grown += length;
    // It is kept already: this may fail, and is tried again.
    if (this.#grown > Math.max(GROWS_MIN, this.#length)) await this.#shorten().catch(() => undefined);
  }

  /** Writes the log anew, all of it or nothing. */
  async #shorten(): Promise<void> {
    const what = "local data cannot be written";
    const transaction = this.#begin("readwrite", what);
    const log = transaction.objectStore(LOG);
    const read = log.getAll() as IDBRequest<Uint8Array<ArrayBuffer>[]>;
    let length = 0;
    read.onsuccess = () => {
      log.clear();
      length = append(transaction, latest(read.result.flatMap(unpackRecords)));
      transaction.objectStore(LOG_LENGTH).put(length, 0);
    };
    await done(transaction, what);
    [this.#length, this.#grown] = [length, 0];
  }

  async clear(): Promise<void> {
    const what = "local data cannot be cleared";
    const transaction = this.#begin("readwrite", what);
    for (const store of ALL_STORES) transaction.objectStore(store).clear();
    await done(transaction, what);
  }

  close(): void {
    this.#database.close();
  }

  #begin(mode: IDBTransactionMode, what: string): IDBTransaction {
    if (this.#isOutdated) throw newer();
    try {
      return this.#database.transaction(ALL_STORES, mode, { durability: "relaxed" });
    } catch (error) {
      throw failed(error, what);
    }
  }
}

/** Keeps everything in memory, for as long as it is there. */
export class MemoryDisk implements Disk {
  readonly #records = new Map<string, DiskRecord>();

  /** All that is kept, each key once. */
  get records(): readonly DiskRecord[] {
    return [...this.#records.values()];
  }

  readAll(): Promise<Kept> {
    const { records } = this;
    return Promise.resolve({
      packed: [packRecords(records)],
      hasFacts: records.some(({ store }) => store === "f"),
      hasQueries: records.some(({ store }) => store === "q"),
    });
  }

  keep(records: readonly DiskRecord[]): Promise<void> {
    for (const { store, key, bytes } of records) {
      const name = `${store}${key.join()}`;
      // A part of a buffer would hold all of it.
      if (bytes) this.#records.set(name, { store, key: key.slice(), bytes: bytes.slice() });
      else this.#records.delete(name);
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
