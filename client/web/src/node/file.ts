// Local data in files: a log of steps, one after the other, that is written anew in short when it is opened.
//
//   step = length: 4 bytes, big-endian | CRC-32 of the records: 4 bytes | records (halcyon-wasm, `disk`)
//
// A step counts whole or not at all: one that was cut off, by a power cut say, ends the log.

import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { HalcyonError } from "../errors";
import { MemoryDisk, type Disk, type Kept } from "../worker/disk";
import { packRecords, unpackRecords, type DiskRecord } from "../worker/engine";

const HEADER = 8;
/** Behind the records that live, this much may be of old ones before the log is written anew. */
const GROWS_MAX = 64 << 20;

function failed(error: unknown, what: string): HalcyonError {
  if (error instanceof HalcyonError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === "ENOSPC" || code === "EDQUOT";
  return new HalcyonError(isFull ? "STORAGE_FULL" : "STORAGE_FAILED", `${what}: ${message}`);
}

function step(records: readonly DiskRecord[]): Uint8Array {
  const packed = packRecords(records);
  const framed = new Uint8Array(HEADER + packed.length);
  const view = new DataView(framed.buffer);
  view.setUint32(0, packed.length);
  view.setUint32(4, crc32(packed));
  framed.set(packed, HEADER);
  return framed;
}

/** The records of all whole steps, in their order. */
function recordsOf(log: Uint8Array<ArrayBuffer>): DiskRecord[] {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  const records: DiskRecord[] = [];
  for (let at = 0; at + HEADER <= log.length;) {
    const end = at + HEADER + view.getUint32(at);
    const packed = log.slice(at + HEADER, end);
    if (end > log.length || crc32(packed) !== view.getUint32(at + 4)) break;
    for (const record of unpackRecords(packed)) records.push(record);
    at = end;
  }
  return records;
}

/** One process at a time. A lock of one that is gone is taken over. */
async function lock(path: string): Promise<void> {
  for (;;) {
    try {
      await writeFile(path, `${process.pid}`, { flag: "wx" });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = Number(await readFile(path, "utf8").catch(() => ""));
    if (isAlive(holder)) {
      throw new HalcyonError("STORAGE_FAILED", `process ${holder} has the local data open`);
    }
    await rm(path, { force: true });
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export class FileDisk implements Disk {
  readonly #directory: string;
  /** What the log comes to. */
  readonly #now: MemoryDisk;
  #log: FileHandle;
  /** Of the log, as far as its steps are whole. */
  #length: number;
  /** Behind the steps that it began with. */
  #grown = 0;
  /** Steps go one after the other. */
  #last: Promise<void> = Promise.resolve();

  private constructor(directory: string, now: MemoryDisk, { log, length }: Log) {
    this.#directory = directory;
    this.#now = now;
    this.#log = log;
    this.#length = length;
  }

  static async open(directory: string): Promise<FileDisk> {
    const what = "local data cannot be opened";
    try {
      await mkdir(directory, { recursive: true });
      await lock(join(directory, "lock"));
      const log = await readFile(join(directory, "log")).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Uint8Array();
        throw error;
      });
      const now = new MemoryDisk();
      await now.keep(recordsOf(new Uint8Array(log)));
      return new FileDisk(directory, now, await shortened(directory, now));
    } catch (error) {
      throw failed(error, what);
    }
  }

  readAll(): Promise<Kept> {
    return this.#now.readAll();
  }

  keep(records: readonly DiskRecord[]): Promise<void> {
    if (records.length === 0) return Promise.resolve();
    const kept = this.#last.then(() => this.#append(records));
    this.#last = kept.catch(() => undefined);
    return kept;
  }

  async clear(): Promise<void> {
    await this.#last;
    await this.#now.clear();
    await this.#shorten();
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#log.close();
    await rm(join(this.#directory, "lock"), { force: true });
  }

  async #append(records: readonly DiskRecord[]): Promise<void> {
    try {
      const bytes = step(records);
      await this.#log.appendFile(bytes);
      await this.#log.datasync();
      await this.#now.keep(records);
      this.#length += bytes.length;
      this.#grown += bytes.length;
      if (this.#grown > GROWS_MAX) await this.#shorten();
    } catch (error) {
      // Half a step would end the log for all that come behind it.
      await this.#log.truncate(this.#length).catch(() => undefined);
      throw failed(error, "local data cannot be written");
    }
  }

  async #shorten(): Promise<void> {
    const { log, length } = await shortened(this.#directory, this.#now);
    await this.#log.close();
    this.#log = log;
    this.#length = length;
    this.#grown = 0;
  }
}

interface Log {
  readonly log: FileHandle;
  readonly length: number;
}

/** A log of what lives alone, in the place of the one before. */
async function shortened(directory: string, now: MemoryDisk): Promise<Log> {
  const fresh = join(directory, `log-${randomUUID()}`);
  const log = await open(fresh, "ax");
  const { records } = now;
  const bytes = records.length > 0 ? step(records) : new Uint8Array();
  await log.appendFile(bytes);
  await log.datasync();
  await rename(fresh, join(directory, "log"));
  return { log, length: bytes.length };
}
