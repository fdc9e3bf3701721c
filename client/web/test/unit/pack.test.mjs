// A module comes out of the packing smaller, and does the same.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pack } from "../../pack.mjs";

const section = (id, ...content) => [id, content.length, ...content];
const list = (...items) => [items.length, ...items.flat()];
const body = (...code) => [code.length + 2, 0, ...code, END];
const named = (name, ...rest) => [name.length, ...Buffer.from(name), ...rest];

const [END, CALL, LOCAL_GET, CONST, INDIRECT, ADD] = [0x0b, 0x10, 0x20, 0x41, 0x11, 0x6a];
const I32 = 0x7f;
/** Types: nothing to a number, a number to a number. */
const [GIVES, MAPS] = [0, 1];

const bodies = [
  [GIVES, body(CONST, 7)],
  [GIVES, body(CONST, 7)],
  // As long as what they call counts as two, so do they.
  [GIVES, body(CALL, 0, CONST, 1, ADD)],
  [GIVES, body(CALL, 1, CONST, 1, ADD)],
  // The same words, another type.
  [MAPS, body(CONST, 7)],
  [MAPS, body(LOCAL_GET, 0, INDIRECT, GIVES, 0)],
];
const module = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, ...list([0x60, 0, 1, I32], [0x60, 1, I32, 1, I32])),
  ...section(3, ...list(...bodies.map(([type]) => [type]))),
  ...section(4, ...list([0x70, 0, 6])),
  ...section(7, ...list(...bodies.map((_, at) => named(`f${at}`, 0, at)))),
  ...section(9, ...list([0, CONST, 0, END, ...list(...bodies.map((_, at) => [at]))])),
  ...section(10, ...list(...bodies.map(([, code]) => code))),
  ...section(0, ...named("name", 1, 2, 3)),
]);

const results = (bytes) => {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  const called = bodies.map((_, at) => exports[`f${at}`](3));
  return [...called, ...[0, 1, 2, 3].map((at) => exports.f5(at))];
};

test("of functions that do the same one stays, and whoever calls the others calls it", () => {
  const packed = pack(module);
  assert.deepEqual(results(packed), [7, 7, 8, 8, 7, 8, 7, 7, 8, 8]);
  assert.deepEqual(results(packed), results(module));
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(packed));
  assert.equal(new Set(bodies.map((_, at) => exports[`f${at}`])).size, 4);
  assert.equal(WebAssembly.Module.customSections(new WebAssembly.Module(packed), "name").length, 0);
});
