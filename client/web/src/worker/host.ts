// One engine with its disk and its connection, for all pages of an origin that share a name.

import { HalcyonError, type ErrorShape } from "../errors";
import type { Preloaded, Settings, Status, ToPage, ToWorker } from "../protocol";
import { Connector } from "./connection";
import { NoDisk, type Disk, type Kept } from "./disk";
import { Engine, packRecords, unpackRecords, type DiskRecord, type Pushed } from "./engine";
import { Rooms } from "./rooms";
import { wakeAll } from "./wait";

/** A page, as the host sees it. */
export interface Page {
  send(message: ToPage): void;
}

interface Subscription {
  readonly page: Page;
  readonly id: number;
  status: Status;
}

interface Write {
  readonly page: Page;
  readonly id: number;
  /** The disk has not said yet that it has it, or will not. */
  isOnTheWay: boolean;
  /** What a node said meanwhile: the page hears it after the disk's word. */
  settled?: ToPage;
}

/** What nodes told is kept this much later: what comes meanwhile is one step. Losing it costs a few buckets of a digest. */
const SAVE_PAUSE_MS = 100;
/** What pages that are gone followed is let go of so long after another page came. */
const LEFT_MS = 5_000;
/** A disk that did not take something is tried again. */
const RETRY_MS = 5_000;

export function shapeOf(error: unknown): ErrorShape {
  if (error instanceof HalcyonError) return { code: error.code, message: error.message };
  return { code: "ENGINE_FAILED", message: error instanceof Error ? error.message : String(error) };
}

/** Where the engine's data come from. */
export interface Sources {
  readonly openDisk: () => Promise<Disk>;
  readonly preloaded: Preloaded | undefined;
}

/** Where the records are, and what was there. A disk that cannot be opened or read is done without. */
async function readDisk(openDisk: () => Promise<Disk>) {
  try {
    const disk = await openDisk();
    return { disk, kept: await disk.readAll() };
  } catch (error) {
    // A newer version's data must not be passed by: what is written there would seem to be lost.
    if (error instanceof HalcyonError && error.code === "NEWER_STORAGE") throw error;
    return { disk: new NoDisk(), kept: undefined, error: shapeOf(error) };
  }
}

/** An engine with what the disk has; with what waits alone, if the rest of it stops the engine. */
async function openEngine(module: WebAssembly.Module, tenant: string, disk: Disk, kept?: Kept["packed"]) {
  try {
    return await Engine.open(module, tenant, kept);
  } catch (error) {
    if (!kept) throw error;
    const records = kept.flatMap(unpackRecords);
    const isKept = ({ store }: DiskRecord): boolean => store === "s" || store === "n";
    const engine = await Engine.open(module, tenant, [packRecords(records.filter(isKept))]);
    const dropped = records.filter((record) => !isKept(record));
    await disk.keep(dropped.map((record) => ({ ...record, bytes: undefined })));
    return engine;
  }
}

/** What was preloaded counts where the disk has nothing of the kind: what is here was synced by this device. */
function preloadedRecords(preloaded: Preloaded | undefined, kept: Kept | undefined) {
  return !preloaded || kept?.hasFacts || kept?.hasQueries ? undefined : new Uint8Array(preloaded);
}

export class Host {
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #connector: Connector;
  readonly #rooms: Rooms;
  /** The engine is lost, or its data: pages need another host. */
  readonly #onEnd: () => void;
  readonly #pages = new Set<Page>();
  readonly #subscriptions = new Map<number, Subscription>();
  readonly #writes = new Map<number, Write>();
  /** Why there is no disk, where there was to be one. */
  readonly #lacksDisk: ErrorShape | undefined;
  /** What the disk did not take: it goes before what comes later. */
  #unkept: readonly DiskRecord[] = [];
  /** Who waits for the disk. */
  #waiting: ((error: ErrorShape | undefined) => void)[] = [];
  #isKeeping = false;
  #keepTimer: ReturnType<typeof setTimeout> | undefined;
  /**
   * What the last page followed. A browser ends a worker some time after its last page; let go of in that time, it would
   * leave the disk too, and a reload offline would show nothing.
   */
  readonly #left: number[] = [];
  #nextSubscription = 1;
  #degraded: ErrorShape | undefined;
  #connection = "";
  #isEnded = false;
  #tookPreloaded = false;

  private constructor(
    engine: Engine,
    disk: Disk,
    settings: Settings,
    hadData: boolean,
    degraded: ErrorShape | undefined,
    onEnd: () => void,
  ) {
    this.#engine = engine;
    this.#disk = disk;
    this.#degraded = degraded;
    this.#lacksDisk = degraded;
    this.#onEnd = onEnd;
    this.#rooms = new Rooms(engine, () => this.#connector);
    this.#connector = new Connector(engine, settings, hadData, {
      onChange: () => {
        this.#step();
      },
      onPushed: (pushed) => this.#onPushed(pushed),
      onStamped: () => {
        this.#step();
        return this.#kept();
      },
      onConnection: () => {
        this.#tell();
      },
      isSynced: () => [...this.#subscriptions.values()].every(({ status }) => status === "synced"),
      onSession: () => {
        this.#rooms.opened();
      },
      onSessionLost: () => {
        this.#rooms.lost();
      },
      onRooms: () => {
        this.#rooms.tell();
      },
    });
  }

  static async open(
    module: Promise<WebAssembly.Module>,
    settings: Settings,
    sources: Sources,
    onEnd: () => void,
  ): Promise<Host> {
    // The disk is read while the module comes.
    const reading = readDisk(sources.openDisk);
    reading.catch(() => undefined);
    const compiled = await module.catch(async (error: unknown) => {
      const read = await reading.catch(() => undefined);
      await read?.disk.close();
      throw error;
    });
    const { disk, kept, error } = await reading;
    const brought = preloadedRecords(sources.preloaded, kept);
    const all = brought ? [...(kept?.packed ?? []), brought] : kept?.packed;
    const engine = await openEngine(compiled, settings.tenant, disk, all);
    const hadData = brought !== undefined || (kept?.hasFacts ?? false);
    const host = new Host(engine, disk, settings, hadData, error, onEnd);
    host.#tookPreloaded = brought !== undefined;
    // It was on another's disk: it goes to this one with what comes next.
    host.#unkept = brought ? unpackRecords(brought) : [];
    if (engine.unreadable > 0) {
      host.#degraded = {
        code: "STORAGE_FAILED",
        message: `${engine.unreadable} pending writes on this device cannot be read`,
      };
    }
    engine.onCrash = (error) => {
      void host.#crashed(error);
    };
    host.#connector.start();
    globalThis.addEventListener?.("online", wakeAll);
    return host;
  }

  /** `isFirst`: the host was opened for this page, with what it brought along. */
  enter(page: Page, isFirst: boolean): void {
    this.#pages.add(page);
    page.send({ type: "opened", tookPreloaded: isFirst && this.#tookPreloaded });
    page.send({ type: "connection", connection: this.#connector.connection });
    if (!this.#connector.isAllowed) page.send({ type: "network", allowed: false });
    if (this.#degraded) page.send({ type: "degraded", error: this.#degraded });
  }

  leave(page: Page): void {
    this.#pages.delete(page);
    this.#rooms.gone(page);
    const followed = [...this.#subscriptions].filter(([, one]) => one.page === page);
    for (const [number] of followed) {
      if (this.#pages.size > 0) this.#drop(number);
      else this.#left.push(number);
    }
    this.#step();
  }

  /** The pages that are here now have had time to follow what they need: the rest goes. */
  #dropLeft(): void {
    if (this.#isEnded || this.#pages.size === 0) return;
    for (const number of this.#left.splice(0)) this.#drop(number);
    this.#step();
  }

  /** What an engine elsewhere can begin with: the records, and what these queries answer now. */
  async snapshot(queries: readonly string[]): Promise<{ records: Uint8Array; news: string[][] }> {
    const news = queries.map((query) => this.#ask(query));
    await this.#kept();
    const kept = await this.#disk.readAll();
    const records = kept?.packed.flatMap(unpackRecords) ?? [];
    const ofAll = new Set(["f", "v", "q"]);
    return { records: packRecords(records.filter(({ store }) => ofAll.has(store))), news };
  }

  /** Ends for good, when all that is on its way to the disk is there. */
  async close(): Promise<void> {
    if (this.#isEnded) return;
    await this.#kept();
    this.#end();
    await this.#disk.close();
    this.#onEnd();
  }

  on(page: Page, message: ToWorker): void {
    if (this.#isEnded) return;
    switch (message.type) {
      case "subscribe":
        this.#subscribe(page, message.id, message.query);
        break;
      case "unsubscribe":
        for (const [number, one] of this.#subscriptions) {
          if (one.page === page && one.id === message.id) this.#drop(number);
        }
        this.#step();
        break;
      case "write":
        this.#write(page, message.id, message.changes);
        break;
      case "expect":
        this.#expect(page, message.id, message.place);
        break;
      case "network":
        if (message.allowed) this.#connector.start();
        else this.#connector.stop();
        this.#send(message);
        this.#step();
        break;
      case "auth":
        this.#connector.signIn({ key: message.key, user: message.user });
        break;
      case "clear":
        void this.#clear(page, message);
        break;
      case "enter":
        this.#rooms.enter(page, message.room, message.user, message.presence);
        break;
      case "leave":
      case "presence":
      case "room-status":
      case "say":
        this.#rooms.on(page, message);
        break;
      case "bye":
        this.leave(page);
        break;
      case "hello":
      case "ping":
        break;
    }
  }

  /** Answers a query once. */
  #ask(query: string): string[] {
    const news: string[] = [];
    const page: Page = {
      send: (message) => {
        if (message.type === "refused-query") throw HalcyonError.from(message.error);
        if (message.type === "news") news.push(message.text);
      },
    };
    this.#subscribe(page, 0, query);
    for (const [number, one] of this.#subscriptions) if (one.page === page) this.#drop(number);
    return news;
  }

  /** Resolves when the disk has what there is now, or takes nothing more. */
  #kept(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(() => {
        resolve();
      });
      void this.#keep();
    });
  }

  #subscribe(page: Page, id: number, query: string): void {
    const number = this.#nextSubscription;
    this.#nextSubscription += 1;
    try {
      this.#engine.follow(number, query);
      this.#subscriptions.set(number, { page, id, status: "local" });
      if (this.#left.length > 0) setTimeout(() => this.#dropLeft(), LEFT_MS);
    } catch (error) {
      if (this.#isEnded) return;
      page.send({ type: "refused-query", id, error: shapeOf(error) });
    }
    this.#step();
    this.#connector.ask();
  }

  #drop(number: number): void {
    this.#subscriptions.delete(number);
    this.#engine.unfollow(number);
    this.#connector.ask();
  }

  #write(page: Page, id: number, changes: string): void {
    let place: number;
    try {
      place = this.#engine.write(changes);
    } catch (error) {
      if (this.#isEnded) return;
      page.send({ type: "settled", id, error: shapeOf(error), superseded: [] });
      return;
    }
    const write: Write = { page, id, isOnTheWay: true };
    this.#writes.set(place, write);
    this.#waiting.push((error) => {
      write.isOnTheWay = false;
      page.send({ type: "written", id, place, error });
      if (write.settled) page.send(write.settled);
    });
    // It shows, and goes to a node and to the disk at once. Were it lost here now, the node's would be the one that is kept.
    this.#engine.durable(place);
    this.#show();
    void this.#connector.push();
    this.#step();
    void this.#keep();
  }

  /** Another engine took this write in. What a node has answered for is settled. */
  #expect(page: Page, id: number, place: number): void {
    if (this.#engine.isOpen(place)) this.#writes.set(place, { page, id, isOnTheWay: false });
    else page.send({ type: "settled", id, error: undefined, superseded: [] });
  }

  async #onPushed(pushed: Pushed): Promise<void> {
    for (const { place, error, superseded = [] } of pushed.settled) {
      const write = this.#writes.get(place);
      this.#writes.delete(place);
      if (write) this.#settle(write, { type: "settled", id: write.id, error, superseded });
      else if (error) this.#send({ type: "rolled-back", error });
    }
    this.#step();
    if (!pushed.rewritten) return;
    await this.#kept();
  }

  #settle(write: Write, settled: ToPage): void {
    if (write.isOnTheWay) write.settled = settled;
    else write.page.send(settled);
  }

  /** Shows what changed at once; the disk follows. */
  #step(): void {
    if (this.#isEnded) return;
    this.#show();
    this.#tell();
    this.#keepTimer ??= setTimeout(() => {
      this.#keepTimer = undefined;
      void this.#keep();
    }, SAVE_PAUSE_MS);
  }

  /** Tells the pages what is new in what they follow. */
  #show(): void {
    if (this.#isEnded) return;
    let frames;
    do {
      frames = this.#engine.takeNews();
      for (const { id, status, text } of frames) {
        const subscription = this.#subscriptions.get(id);
        if (!subscription) continue;
        subscription.status = status ?? subscription.status;
        subscription.page.send({ type: "news", id: subscription.id, text });
      }
    } while (frames.at(-1)?.hasMore);
  }

  /** Keeps all that is not kept, step after step: what comes while one is written goes together with the next. */
  async #keep(): Promise<void> {
    if (this.#isKeeping || this.#isEnded) return;
    this.#isKeeping = true;
    try {
      for (;;) {
        const waiting = this.#waiting;
        this.#waiting = [];
        const records = [...this.#unkept, ...this.#engine.takeRecords()];
        if (records.length === 0 && waiting.length === 0) break;
        const error = await this.#keepOnce(records);
        if (this.#isEnded) return;
        for (const tell of waiting) tell(error);
        void this.#connector.push();
        if (error && this.#waiting.length === 0) break;
      }
    } catch {
      // The engine has stopped, and another one starts from what the disk has.
    } finally {
      this.#isKeeping = false;
    }
  }

  async #keepOnce(records: readonly DiskRecord[]): Promise<ErrorShape | undefined> {
    if (this.#lacksDisk) return this.#lacksDisk;
    try {
      await this.#disk.keep(records);
      this.#unkept = [];
      this.#degraded = undefined;
      return undefined;
    } catch (error) {
      const shape = shapeOf(error);
      // Of each key only the last counts.
      const last = new Map(records.map((record) => [`${record.store}${record.key.join()}`, record]));
      this.#unkept = [...last.values()];
      if (this.#degraded?.code !== shape.code) this.#send({ type: "degraded", error: shape });
      this.#degraded = shape;
      this.#keepTimer ??= setTimeout(() => {
        this.#keepTimer = undefined;
        void this.#keep();
      }, RETRY_MS);
      return shape;
    }
  }

  /** Another engine begins then, with nothing; where the disk does not let it, with what is there. */
  async #clear(page: Page, { id, writes }: Extract<ToWorker, { readonly type: "clear" }>): Promise<void> {
    this.#end();
    let error: ErrorShape | undefined;
    try {
      await this.#disk.clear();
    } catch (thrown) {
      error = shapeOf(thrown);
    }
    await this.#disk.close();
    this.#onEnd();
    page.send({ type: "cleared", id, writes, error });
    // Who cleared knows which of its writes that took.
    for (const other of this.#pages) other.send({ type: "restarted", isCleared: !error && other !== page });
  }

  /** The engine is in no state to go on: another one starts from the disk. */
  async #crashed(error: unknown): Promise<void> {
    if (this.#isEnded) return;
    this.#end();
    this.#send({ type: "degraded", error: shapeOf(error) });
    await this.#disk.close();
    this.#onEnd();
    this.#send({ type: "restarted" });
  }

  #end(): void {
    this.#isEnded = true;
    clearTimeout(this.#keepTimer);
    try {
      this.#connector.stop();
    } catch {
      // The engine did not survive to hear of it.
    }
  }

  #tell(): void {
    if (this.#isEnded) return;
    const { connection } = this.#connector;
    const text = JSON.stringify(connection);
    if (text === this.#connection) return;
    this.#connection = text;
    this.#send({ type: "connection", connection });
  }

  #send(message: ToPage): void {
    for (const page of this.#pages) page.send(message);
  }
}
