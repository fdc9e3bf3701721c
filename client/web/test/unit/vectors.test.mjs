// The engine's vectors in Node.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { build } from "esbuild";
import { run } from "../vectors.mjs";

const file = (path) => new URL(path, import.meta.url);
const entryPoints = [file("../../src/worker/engine.ts").pathname];
const { outputFiles } = await build({ entryPoints, bundle: true, format: "esm", write: false });
const { Engine } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`
);

test("the module gives the bytes, fingerprints and answers that Rust recorded", async () => {
  const module = await WebAssembly.compile(await readFile(file("../../dist/halcyon.wasm")));
  const cases = JSON.parse(await readFile(file("../../../wasm/testdata/vectors.json"), "utf8"));
  assert.ok(cases.length >= 5);
  assert.deepEqual(await run(Engine, module, cases), []);
});
