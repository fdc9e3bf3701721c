// What a page remembers of what it said, and what a worker does with what is said in rooms.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bundled, until } from "./bundle.mjs";

const { Link, Rooms } = await bundled(
  `export { Link } from "./link"; export { Rooms } from "./worker/rooms";`,
);

/** A link, what it says to each worker, and how those answer. */
function linked(context, preloaded) {
  const [said, heard] = [[], []];
  const ports = [];
  const connect = () => {
    const port = { postMessage: (message) => said.push(message), onmessage: null, close: () => undefined };
    ports.push(port);
    return port;
  };
  const settings = { key: "k" };
  const link = new Link({ connect, wasm: "" }, settings, preloaded, (message) => heard.push(message));
  context.after(() => link.close());
  const answer = (data) => ports.at(-1).onmessage({ data });
  /** What is said again when another engine leads. */
  const again = (more = {}) => {
    said.length = 0;
    answer({ type: "restarted", ...more });
    const [hello, ...rest] = said;
    assert.equal(hello.type, "hello");
    return { preloaded: hello.preloaded, rest };
  };
  return { link, answer, again };
}

const write = (id) => ({ type: "write", id, changes: `[${id}]` });

test("what is to be cleared is said again until it is, and what was written before is not", (context) => {
  const preloaded = new Uint8Array([1]);
  const { link, answer, again } = linked(context, preloaded);
  link.send(write(1));
  link.send(write(2));
  answer({ type: "written", id: 1, place: 7, error: undefined });
  link.clear(3);
  link.send(write(4));
  const clear = { type: "clear", id: 3, writes: [2, 1] };
  assert.deepEqual(again(), { preloaded, rest: [clear, write(4)] });
  // On its way when it was cleared.
  answer({ type: "written", id: 2, place: 8, error: undefined });
  answer({ type: "cleared", id: 3, writes: [2, 1], error: undefined });
  assert.deepEqual(again(), { preloaded: undefined, rest: [write(4)] });
  answer({ type: "written", id: 2, place: 8, error: undefined });
  assert.deepEqual(again().rest, [write(4)]);
});

test("where the disk does not let it be cleared, all is as it was", (context) => {
  const preloaded = new Uint8Array([1]);
  const { link, answer, again } = linked(context, preloaded);
  link.send(write(1));
  link.send(write(2));
  answer({ type: "written", id: 1, place: 7, error: undefined });
  link.clear(3);
  answer({ type: "cleared", id: 3, writes: [2, 1], error: { code: "STORAGE_FULL", message: "full" } });
  assert.deepEqual(again(), { preloaded, rest: [{ type: "expect", id: 1, place: 7 }, write(2)] });
});

test("another page's clear takes what this one wrote, and what it was about to clear", (context) => {
  const { link, again } = linked(context);
  link.send(write(1));
  link.clear(2);
  assert.deepEqual(again({ isCleared: true }).rest, []);
});

test("whether it may connect is what some page said last", (context) => {
  const { link, answer, again } = linked(context);
  link.send({ type: "network", allowed: false });
  assert.deepEqual(again().rest, [{ type: "network", allowed: false }]);
  answer({ type: "network", allowed: true });
  assert.deepEqual(again().rest, []);
});

/** Rooms whose calls are answered one by one, by hand. */
function rooms() {
  const calls = [];
  const engine = {
    roomNews: () => [],
    roomLeft: () => undefined,
    onEntered: () => "c",
    refusal: () => undefined,
  };
  const room = (kind, about) =>
    new Promise((resolve, reject) => calls.push({ kind, about, resolve, reject }));
  const all = new Rooms(engine, () => ({ room }));
  const told = [];
  const page = { send: (message) => told.push(message) };
  const say = (topic) => {
    all.on(page, { type: "say", room: "r", topic, payload: "{}", to: [] });
  };
  const status = (values) => {
    all.on(page, { type: "room-status", room: "r", status: values });
  };
  all.opened();
  all.enter(page, "r", "ann", "{}");
  const kinds = () => calls.map(({ kind, about }) => about.topic ?? kind);
  return { all, page, told, calls, kinds, say, status };
}

test("what is said in a room goes one after the other, and a leave goes last", async () => {
  const { all, page, calls, kinds, say, status } = rooms();
  say("a");
  status({ x: "1", y: "1" });
  status({ x: "2" });
  say("b");
  all.on(page, { type: "leave", room: "r" });
  assert.deepEqual(kinds(), ["EnterRoom", "a"]);
  for (const next of ["SetRoomStatus", "b", "LeaveRoom"]) {
    calls.at(-1).resolve(new Uint8Array());
    await until(() => kinds().at(-1) === next, next);
  }
  assert.deepEqual(calls[2].about.status, { x: "2", y: "1" });
  assert.equal(calls.length, 5);
});

test("who comes back before the room was left goes on where they were", async () => {
  const { all, page, calls, kinds, say } = rooms();
  say("a");
  all.on(page, { type: "leave", room: "r" });
  all.enter(page, "r", "ann", "{}");
  say("b");
  calls[1].resolve(new Uint8Array());
  await until(() => kinds().at(-1) === "b", "what was said after it");
  assert.deepEqual(kinds(), ["EnterRoom", "a", "EnterRoom", "b"]);
});

test("too much at once is refused, and what is said later ends that", async () => {
  const { told, calls, say } = rooms();
  const error = () => told.filter(({ type }) => type === "room-state").at(-1).error?.code;
  for (let at = 0; at < 300; at += 1) say(`${at}`);
  assert.equal(error(), "BUSY");
  for (let at = 0; at < 256; at += 1) {
    await until(() => calls.length === at + 2, "the next call");
    calls.at(-1).resolve(new Uint8Array());
  }
  assert.equal(error(), "BUSY");
  await new Promise((resolve) => setTimeout(resolve, 10));
  say("later");
  calls.at(-1).resolve(new Uint8Array());
  await until(() => error() === undefined, "no error");
});
