// Writes of a page, and what is heard of them.

import { HalcyonError, type ErrorShape } from "./errors";
import type { Superseded } from "./protocol";

export type WriteStatus = "applied" | "kept" | "confirmed" | "superseded" | "refused";

/** A write. It shows at once; the rest is news of its way. */
export interface Write<T> {
  /** What the function given to `tx` returned. */
  readonly value: T;
  /** On this device's disk; rejects where that takes nothing more. The write goes on from memory then. */
  readonly kept: Promise<void>;
  /**
   * On a node's disk; rejects with a {@link HalcyonError} if it was refused, or cleared or the client closed before a node
   * was heard. It waits as long as no node takes it: offline, or with a key that is refused (`connection` says so).
   */
  readonly confirmed: Promise<void>;
  readonly status: WriteStatus;
  /** Once it is confirmed: what of it had lost, to a deletion, an entity long gone, or a later write of the field. */
  readonly superseded: readonly Superseded[];
}

/** The engine names a field with its type in front. */
const ofSchema = ({ id, field }: Superseded): Superseded => ({
  id,
  field: field === null ? null : field.slice(field.indexOf("/") + 1),
});

export class PendingWrite<T> implements Write<T> {
  readonly value: T;
  readonly kept: Promise<void>;
  readonly confirmed: Promise<void>;
  status: WriteStatus = "applied";
  superseded: readonly Superseded[] = [];
  #keep: (error: HalcyonError | undefined) => void = () => undefined;
  #settle: (error: HalcyonError | undefined) => void = () => undefined;

  constructor(value: T) {
    this.value = value;
    this.kept = new Promise((resolve, reject) => {
      this.#keep = (error) => {
        if (error) reject(error);
        else resolve();
      };
    });
    this.confirmed = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        if (error) reject(error);
        else resolve();
      };
    });
    // Looking at them is optional; errors also go to `onRefused` and `onFailed`.
    this.confirmed.catch(() => undefined);
    this.kept.catch(() => undefined);
  }

  onKept(error: HalcyonError | undefined): void {
    if (this.status === "applied" && !error) this.status = "kept";
    this.#keep(error);
  }

  /** Nobody will say any more what becomes of it. */
  onClosed(error: HalcyonError): void {
    this.#settle(error);
  }

  onSettled(error: HalcyonError | undefined, superseded: readonly Superseded[]): void {
    this.status = error ? "refused" : superseded.length > 0 ? "superseded" : "confirmed";
    this.superseded = superseded.map(ofSchema);
    // What was refused before it came to the disk never came there.
    this.#keep(error);
    this.#settle(error);
  }
}

/** Those that are not settled yet, by the numbers under which the worker knows them. */
export class Writes {
  readonly #open = new Map<number, PendingWrite<unknown>>();
  /** Why the engine did not open: nothing comes to this device's disk. */
  failure: HalcyonError | undefined;

  add(id: number, write: PendingWrite<unknown>): void {
    this.#open.set(id, write);
    if (this.failure) write.onKept(this.failure);
  }

  onKept(id: number, error: ErrorShape | undefined): void {
    this.#open.get(id)?.onKept(error && HalcyonError.from(error));
  }

  onSettled(id: number, error: HalcyonError | undefined, superseded: readonly Superseded[] = []): void {
    this.#open.get(id)?.onSettled(error, superseded);
    this.#open.delete(id);
  }

  onOpened(): void {
    this.failure = undefined;
  }

  onFailed(error: HalcyonError): void {
    this.failure = error;
    for (const write of this.#open.values()) write.onKept(error);
  }

  /** These, or all of them, were cleared before a node had answered for them. */
  onCleared(ids: readonly number[] = [...this.#open.keys()]): void {
    const error = new HalcyonError(
      "CLEARED",
      "local data were cleared before a node had answered for the write",
    );
    for (const id of ids) this.onSettled(id, error);
  }

  onClosed(): void {
    const message =
      "the client was closed before a node had answered for the write; what is on the disk goes on";
    for (const write of this.#open.values()) write.onClosed(new HalcyonError("CLOSED", message));
    this.#open.clear();
  }

  /** Resolves when the disk has them all, or does not take them. */
  async kept(): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map((write) => write.kept));
  }
}
