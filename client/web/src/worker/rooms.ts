// Rooms that pages of this origin are in. A session is in a room once, whatever number of pages are: the others see one
// connection, with the presence that was set last. Pages of this origin see each other here, without a node.

import type { ErrorShape } from "../errors";
import type { RoomMessage, RoomNews, RoomUser, ToPage, ToWorker } from "../protocol";
import { NoSession, type Connector } from "./connection";
import type { Engine } from "./engine";
import type { Page } from "./host";
import { CallError } from "./transport";
import { sleep } from "./wait";

/** Between two tries of a call that did not get through. */
const RETRY_MS = 250;
/** So much may wait to be said in a room. A node takes sixty a second. */
const SAID_MAX = 256;
/** Refusals that pass by themselves. */
const PASSING = ["WRONG_REGION", "BUSY", "RETRY", "NOT_FOUND", "NO_QUORUM", "INTERNAL"];

interface Guest {
  /** What the other pages of this origin see. */
  user: RoomUser;
}

interface Room {
  readonly name: string;
  readonly guests: Map<Page, Guest>;
  readonly users: Map<string, RoomUser>;
  readonly status: Map<string, string>;
  user: string;
  presence: string;
  connection: string | undefined;
  /** Ends what is tried for this session, or for ever. */
  session: AbortController;
  isSending: boolean;
  isChanged: boolean;
  /** Who was told that something did not get through. */
  readonly failed: Set<Page>;
}

type Status = Readonly<Record<string, string | null>>;

interface Said {
  readonly page: Page;
  readonly kind: "SetRoomStatus" | "SendRoomMessage" | "LeaveRoom";
  about: { readonly status?: Status; readonly [name: string]: unknown };
  /** Said after something that did not get through: if this does, that is over. */
  readonly isNext: boolean;
}

type About = Exclude<Extract<ToWorker, { readonly room: string }>, { readonly type: "enter" }>;

const nothing = (room: string): RoomNews => ({
  room,
  whole: false,
  users: [],
  gone: [],
  status: {},
  messages: [],
  missed: 0,
});

export class Rooms {
  readonly #engine: Engine;
  readonly #connector: () => Connector;
  readonly #rooms = new Map<string, Room>();
  readonly #names = new Map<Page, string>();
  /** What is said in rooms, one call after the other in each: what overtakes another is later for everybody else. */
  readonly #said = new Map<string, Said[]>();
  #isOpen = false;
  #pages = 0;

  constructor(engine: Engine, connector: () => Connector) {
    this.#engine = engine;
    this.#connector = connector;
  }

  enter(page: Page, name: string, user: string, presence: string): void {
    let room = this.#rooms.get(name);
    const isNew = !room;
    if (!room) {
      room = {
        name,
        guests: new Map(),
        users: new Map(),
        status: new Map(),
        user,
        presence,
        connection: undefined,
        session: new AbortController(),
        isSending: false,
        isChanged: false,
        failed: new Set(),
      };
      this.#rooms.set(name, room);
    }
    const here = this.#nameOf(page);
    const guest = { user: { connection: here, user, presence, region: "", seen: Date.now() } };
    const others = [...room.guests].filter(([other]) => other !== page).map(([, { user }]) => user);
    room.guests.set(page, guest);
    this.#tellState(room, page);
    const users = [...room.users.values(), ...others];
    const status = Object.fromEntries(room.status);
    this.#send(page, { ...nothing(name), whole: true, users, status });
    this.#tellOthers(room, page, { ...nothing(name), users: [guest.user] });
    if (isNew) void this.#enter(room);
    else this.#setPresence(room, presence);
  }

  on(page: Page, message: About): void {
    const room = this.#rooms.get(message.room);
    const guest = room?.guests.get(page);
    if (!room || !guest) return;
    switch (message.type) {
      case "leave":
        this.#leave(room, page);
        break;
      case "presence":
        guest.user = { ...guest.user, presence: message.presence, seen: Date.now() };
        this.#tellOthers(room, page, { ...nothing(room.name), users: [guest.user] });
        this.#setPresence(room, message.presence);
        break;
      case "room-status":
        this.#setStatus(room, page, message.status);
        break;
      case "say":
        this.#say(page, room, message);
        break;
    }
  }

  /** A page is gone, and is in no room any more. */
  gone(page: Page): void {
    for (const room of [...this.#rooms.values()]) if (room.guests.has(page)) this.#leave(room, page);
    this.#names.delete(page);
  }

  /** The session is open, or open again. */
  opened(): void {
    this.#isOpen = true;
    for (const room of this.#rooms.values()) void this.#enter(room);
  }

  lost(): void {
    this.#isOpen = false;
    for (const room of this.#rooms.values()) {
      room.session.abort();
      this.#connected(room, undefined);
    }
  }

  /** Passes on what nodes told. */
  tell(): void {
    for (const news of this.#engine.roomNews()) {
      const room = this.#rooms.get(news.room);
      if (!room) {
        this.#engine.roomLeft(news.room);
        continue;
      }
      for (const connection of news.gone) room.users.delete(connection);
      for (const user of news.users) room.users.set(user.connection, user);
      for (const [key, value] of Object.entries(news.status)) {
        if (value === null) room.status.delete(key);
        else room.status.set(key, value);
      }
      // What differs from before is told of a room that came whole: pages know the rest, and who else is here.
      for (const page of room.guests.keys()) this.#send(page, { ...news, whole: false });
    }
  }

  async #enter(room: Room): Promise<void> {
    room.session.abort();
    if (!this.#isOpen) return;
    const session = new AbortController();
    room.session = session;
    while (!session.signal.aborted) {
      room.isChanged = false;
      const { name, user, presence } = room;
      try {
        const answer = await this.#connector().room("EnterRoom", { room: name, user, presence });
        if (session.signal.aborted) return;
        this.#connected(room, this.#engine.onEntered(answer));
        if (room.isChanged) void this.#speak(room);
        return;
      } catch (error) {
        if (session.signal.aborted || error instanceof NoSession) return;
        const refusal = this.#refusalOf(error);
        if (refusal && !PASSING.includes(refusal.code)) {
          this.#connected(room, undefined, refusal);
          return;
        }
        await sleep(RETRY_MS, session.signal);
      }
    }
  }

  #leave(room: Room, page: Page): void {
    room.guests.delete(page);
    room.failed.delete(page);
    const gone = [this.#nameOf(page)];
    this.#tellOthers(room, page, { ...nothing(room.name), gone });
    if (room.guests.size > 0) return;
    this.#rooms.delete(room.name);
    room.session.abort();
    this.#engine.roomLeft(room.name);
    // The session's end would do the same, later.
    if (this.#isOpen) this.#saySoon(room, page, "LeaveRoom", { room: room.name });
  }

  #setPresence(room: Room, presence: string): void {
    if (room.presence === presence) return;
    room.presence = presence;
    room.isChanged = true;
    void this.#speak(room);
  }

  /** Sends presences: one call at a time, and then the latest. */
  async #speak(room: Room): Promise<void> {
    if (room.isSending) return;
    room.isSending = true;
    const { signal } = room.session;
    try {
      while (room.isChanged && room.connection !== undefined && !signal.aborted) {
        room.isChanged = false;
        const { name, presence } = room;
        try {
          await this.#connector().room("SetPresence", { room: name, presence });
        } catch (error) {
          const refusal = this.#refusalOf(error);
          if (refusal && !PASSING.includes(refusal.code)) {
            this.#connected(room, room.connection, refusal);
            continue;
          }
          room.isChanged = true;
          await sleep(refusal?.retryAfterMs ?? RETRY_MS, signal);
        }
      }
    } finally {
      room.isSending = false;
    }
  }

  #say(page: Page, room: Room, message: Extract<About, { type: "say" }>): void {
    const { topic, payload, to } = message;
    const from = this.#nameOf(page);
    const local: RoomMessage = { topic, payload, from, at: Date.now(), stamp: "" };
    for (const other of room.guests.keys()) {
      const isMeant = to.length === 0 || to.includes(this.#nameOf(other));
      if (other !== page && isMeant) this.#send(other, { ...nothing(room.name), messages: [local] });
    }
    const names = new Set(this.#names.values());
    const elsewhere = to.filter((name) => !names.has(name));
    if (to.length > 0 && elsewhere.length === 0) return;
    const about = { room: room.name, topic, payload, to: elsewhere };
    this.#saySoon(room, page, "SendRoomMessage", about);
  }

  #setStatus(room: Room, page: Page, status: Status): void {
    // It goes with one that waits before it; the first does not wait, it is under way.
    const last = this.#said.get(room.name)?.slice(1).at(-1);
    if (last?.kind === "SetRoomStatus" && last.page === page)
      last.about = { ...last.about, status: { ...last.about.status, ...status } };
    else this.#saySoon(room, page, "SetRoomStatus", { room: room.name, status });
  }

  #saySoon(room: Room, page: Page, kind: Said["kind"], about: Said["about"]): void {
    const { name } = room;
    const said: Said = { page, kind, about, isNext: room.failed.has(page) };
    const waiting = this.#said.get(name);
    if (!waiting) {
      this.#said.set(name, [said]);
      void this.#sayAll(name);
    } else if (waiting.length < SAID_MAX || kind === "LeaveRoom") {
      waiting.push(said);
    } else {
      const message = `more than ${SAID_MAX} messages wait to be sent in this room`;
      this.#notSaid(room, page, { code: "BUSY", message });
    }
  }

  async #sayAll(name: string): Promise<void> {
    const waiting = this.#said.get(name) ?? [];
    try {
      // The one under way is the first of them.
      for (let said = waiting[0]; said; said = waiting[0]) {
        await this.#sayOnce(name, said);
        waiting.shift();
      }
    } catch {
      // The engine has stopped, and pages go on with another one.
    } finally {
      this.#said.delete(name);
    }
  }

  async #sayOnce(name: string, { page, kind, about, isNext }: Said): Promise<void> {
    // Somebody has come back before it was left.
    if (kind === "LeaveRoom" && this.#rooms.has(name)) return;
    let error: ErrorShape | undefined;
    try {
      await this.#connector().room(kind, about);
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      error = this.#refusalOf(thrown) ?? { code: "UNREACHABLE", message };
    }
    const room = this.#rooms.get(name);
    if (kind === "LeaveRoom") {
      // Somebody has come back while it was left.
      if (room && !error) void this.#enter(room);
    } else if (room?.guests.has(page)) {
      if (error) this.#notSaid(room, page, error);
      else if (isNext && room.failed.delete(page)) this.#tellState(room, page);
    }
  }

  #notSaid(room: Room, page: Page, error: ErrorShape): void {
    room.failed.add(page);
    this.#tellState(room, page, error);
  }

  #tellState(room: Room, page: Page, error?: ErrorShape): void {
    page.send({ type: "room-state", room: room.name, connection: room.connection, error });
  }

  #connected(room: Room, connection: string | undefined, error?: ErrorShape): void {
    room.connection = connection;
    for (const page of room.guests.keys()) this.#tellState(room, page, error);
  }

  #refusalOf(error: unknown) {
    const hasDetails = error instanceof CallError && error.details.length > 0;
    return hasDetails ? this.#engine.refusal(error.details) : undefined;
  }

  /** How the other pages of this origin know a page. */
  #nameOf(page: Page): string {
    let name = this.#names.get(page);
    if (name === undefined) {
      this.#pages += 1;
      name = `page:${this.#pages}`;
      this.#names.set(page, name);
    }
    return name;
  }

  #tellOthers(room: Room, page: Page, news: RoomNews): void {
    for (const other of room.guests.keys()) if (other !== page) this.#send(other, news);
  }

  #send(page: Page, news: RoomNews): void {
    const message: ToPage = { type: "room", news };
    page.send(message);
  }
}
