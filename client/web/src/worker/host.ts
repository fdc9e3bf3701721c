// One engine with its disk and its connection, for all pages of an origin that share a name.

import { HalcyonError, type ErrorShape } from "../errors";
import type { Connection, Settings, ToPage, ToWorker } from "../protocol";
import { Connector } from "./connection";
import { IndexedDbDisk, MemoryDisk, type Disk } from "./disk";
import { Engine, type Pushed } from "./engine";

/** A page, as the host sees it. */
export interface Page {
  send(message: ToPage): void;
}

interface Subscription {
  readonly page: Page;
  readonly id: number;
}

interface Write {
  readonly page: Page;
  readonly id: number;
}

function shapeOf(error: unknown): ErrorShape {
  if (error instanceof HalcyonError) return { code: error.code, message: error.message };
  return { code: "ENGINE_FAILED", message: error instanceof Error ? error.message : String(error) };
}

export class Host {
  readonly #engine: Engine;
  readonly #disk: Disk;
  readonly #connector: Connector;
  readonly #pages = new Set<Page>();
  readonly #subscriptions = new Map<number, Subscription>();
  readonly #writes = new Map<number, Write>();
  #nextSubscription = 1;
  #lastPlace = 0;
  #keeping: Promise<void> = Promise.resolve();

  private constructor(engine: Engine, disk: Disk, settings: Settings) {
    this.#engine = engine;
    this.#disk = disk;
    this.#connector = new Connector(engine, settings, {
      onChange: () => {
        this.#step();
      },
      onPushed: (pushed) => {
        this.#onPushed(pushed);
      },
      onConnection: (connection) => {
        this.#tell(connection);
      },
    });
  }

  static async open(module: WebAssembly.Module, settings: Settings): Promise<Host> {
    const name = `${settings.name}:${settings.tenant}`;
    const disk = settings.persistence === "memory" ? new MemoryDisk() : await IndexedDbDisk.open(name);
    const engine = await Engine.open(module, settings.tenant);
    const records = await disk.readAll();
    for (const record of records) engine.restore(record);
    const host = new Host(engine, disk, settings);
    if (records.some((record) => record.store === "c")) host.#connector.restored();
    host.#connector.start();
    return host;
  }

  enter(page: Page): void {
    this.#pages.add(page);
    page.send({ type: "opened" });
    page.send({ type: "connection", connection: this.#connector.connection });
  }

  leave(page: Page): void {
    this.#pages.delete(page);
    for (const [number, subscription] of this.#subscriptions) {
      if (subscription.page === page) this.#drop(number);
    }
  }

  on(page: Page, message: ToWorker): void {
    switch (message.type) {
      case "subscribe":
        this.#subscribe(page, message.id, message.query);
        break;
      case "unsubscribe":
        for (const [number, one] of this.#subscriptions) {
          if (one.page === page && one.id === message.id) this.#drop(number);
        }
        break;
      case "write":
        this.#write(page, message.id, message.changes);
        break;
      case "network":
        if (message.allowed) this.#connector.start();
        else this.#connector.stop();
        break;
      case "auth":
        this.#connector.signIn({ key: message.key, user: message.user });
        break;
      case "clear":
        void this.#clear(page, message.id);
        break;
      case "bye":
        this.leave(page);
        break;
      case "hello":
        break;
    }
  }

  #subscribe(page: Page, id: number, query: string): void {
    const number = this.#nextSubscription;
    this.#nextSubscription += 1;
    this.#subscriptions.set(number, { page, id });
    try {
      this.#engine.subscribe(number, query);
    } catch (error) {
      this.#drop(number);
      page.send({ type: "refused-query", id, error: shapeOf(error) });
    }
    this.#step();
  }

  #drop(number: number): void {
    this.#subscriptions.delete(number);
    this.#engine.unsubscribe(number);
  }

  #write(page: Page, id: number, changes: string): void {
    let place: number;
    try {
      place = this.#engine.write(changes);
    } catch (error) {
      page.send({ type: "settled", id, error: shapeOf(error) });
      return;
    }
    this.#lastPlace = place;
    this.#writes.set(place, { page, id });
    this.#step(() => {
      page.send({ type: "written", id });
    });
    this.#tell(this.#connector.connection);
  }

  #onPushed(pushed: Pushed): void {
    for (const { place, error } of pushed.settled) {
      const write = this.#writes.get(place);
      this.#writes.delete(place);
      if (write) write.page.send({ type: "settled", id: write.id, error });
      else if (error) this.#send({ type: "rolled-back", error });
    }
    this.#step();
    this.#tell(this.#connector.connection);
  }

  /** Shows what changed at once, keeps it, and lets go to nodes only what the disk has. */
  #step(kept?: () => void): void {
    for (const { id, text } of this.#engine.takeNews()) {
      const subscription = this.#subscriptions.get(id);
      subscription?.page.send({ type: "news", id: subscription.id, text });
    }
    const records = this.#engine.takeRecords();
    const place = this.#lastPlace;
    if (records.length === 0) return;
    // Steps are kept in their order: each record waits for those before it.
    this.#keeping = this.#keeping
      .then(() => this.#disk.keep(records))
      .then(
        () => {
          this.#engine.durable(place);
          kept?.();
          void this.#connector.push();
        },
        (error: unknown) => {
          this.#send({ type: "failed", error: shapeOf(error) });
        },
      );
  }

  async #clear(page: Page, id: number): Promise<void> {
    this.#connector.stop();
    await this.#keeping;
    await this.#disk.clear();
    page.send({ type: "cleared", id });
  }

  #tell(connection: Connection): void {
    this.#send({ type: "connection", connection });
  }

  #send(message: ToPage): void {
    for (const page of this.#pages) page.send(message);
  }
}
