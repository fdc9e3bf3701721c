// What the peers share: how to find them where npm put them, and how to take times.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const requireFrom = (dir) => createRequire(join(dir, "package.json"));

/** For packages that are modules only, which `require` does not find, and for files that they do not export. */
export const importFrom = (dir, path) => import(pathToFileURL(join(dir, "node_modules", path)).href);

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const list = (count, entity) => Array.from({ length: count }, (_, at) => entity(at));

/** How many milliseconds each of so many times took. */
export async function timed(times, what) {
  const all = [];
  for (let at = 0; at < times; at += 1) {
    const from = performance.now();
    await what(at);
    all.push(performance.now() - from);
  }
  return all;
}
