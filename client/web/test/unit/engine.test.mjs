// The module's door, where numbers could lose something on their way through JavaScript.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { bundled, wasm } from "./bundle.mjs";

const { Engine } = await bundled(`export { Engine } from "./worker/engine";`);
const module = await WebAssembly.compile(await readFile(wasm));
const DEVICE_MS = 1_780_000_000_000n;

function varint(number) {
  const bytes = [];
  for (let rest = number; ; rest >>= 7n) {
    if (rest < 0x80n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

/** What a node answers to `Hello` whose clock is this far behind the device's. */
function greeting(behindMs, driftMaxMs) {
  const wall = ((DEVICE_MS - behindMs) << 32n) / 1_000n;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, wall, true);
  // `HelloResponse`: node, wall, drift_max_ms.
  return Uint8Array.from([0x18, 1, 0x29, ...bytes, 0x30, ...varint(driftMaxMs)]);
}

/** Whether a write is stamped again for a node whose clock is an hour behind. */
async function isStampedAgain(driftMaxMs) {
  const engine = await Engine.open(module, "app", [], { client: [0n, 1n], now: () => DEVICE_MS });
  engine.atNode(engine.onHello(greeting(3_600_000n, driftMaxMs)));
  engine.durable(engine.write(JSON.stringify([["set", "i", "issue/title", "x"]])));
  engine.takeRecords();
  // The disk hears that it is pushed, and of the set only if that is another now.
  assert.ok(engine.beforePush(0));
  return engine.takeRecords().some(({ store }) => store === "s");
}

test("a node that takes any time is taken at its word, whatever number it says", async () => {
  //            drift_max in milliseconds, stamped again
  const cases = [
    [60_000n, true],
    [7_200_000n, false],
    [2n ** 53n + 1n, false],
    [2n ** 63n + 1n, false],
    [2n ** 64n - 1n, false],
  ];
  for (const [driftMaxMs, expected] of cases)
    assert.equal(await isStampedAgain(driftMaxMs), expected, `${driftMaxMs}`);
});

test("what only other clients write is refused here, and the engine goes on", async () => {
  const engine = await Engine.open(module, "app", [], { client: [0n, 1n], now: () => DEVICE_MS });
  const follow = (query) => engine.follow(1, typeof query === "string" ? query : JSON.stringify(query));
  const refused = (query, why) => assert.throws(() => follow(query), why, JSON.stringify(query));
  refused("issue { title }", /JSON/);
  refused("find ?x where ?x issue/title ?y", /JSON/);
  refused({ find: ["?x"], where: [["?x", "issue/title", "?y"]] }, /find/);
  refused({ from: "issue", rules: [] }, /rules/);
  // No path holds a number, a text, a variable or a reference.
  for (const path of [
    "5",
    "-1.5e3",
    "title.5",
    "2026-01-31",
    "0x00",
    '"title"',
    "?title",
    "@title",
    "infinity",
  ])
    refused({ from: "issue", where: [path, "=", 1] }, /./);
  refused({ from: "issue", where: ["title", "=", { $number: "1.5" }] }, /number/);
  const write = (value) => engine.write(JSON.stringify([["set", "i", "issue/rank", value]]));
  assert.throws(() => write({ $number: "1.5" }), /number/);
  for (const value of [{ $number: "inf" }, { $number: "-inf" }, -1.5, 1e300, 5e-324]) {
    write(value);
    follow({ from: "issue", where: ["rank", "=", value], select: ["rank", "json", "date"] });
    const [{ text }] = engine.takeNews();
    assert.deepEqual(JSON.parse(text).rows, [{ id: "i", rank: value, json: null, date: null }]);
    engine.unfollow(1);
  }
});
