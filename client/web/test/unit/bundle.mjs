// Sources as Node can import them.

import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const web = new URL("../..", import.meta.url).pathname;

/** The module that the package was built with. */
export const wasm = new URL("../../dist/halcyon.wasm", import.meta.url);

/** Bundles code that imports from `src` and from packages, and imports that. */
export async function bundled(contents, { conditions = [] } = {}) {
  // Beside the packages, so that what stays outside is found.
  const dir = await mkdtemp(join(web, "node_modules/.halcyon-test-"));
  try {
    const outfile = join(dir, "bundle.mjs");
    await build({
      stdin: { contents, resolveDir: join(web, "src"), loader: "tsx" },
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      jsx: "automatic",
      conditions,
      logLevel: "error",
      banner: {
        js: 'import { createRequire as __r } from "node:module"; const require = __r(import.meta.url);',
      },
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Until something holds, with time for a machine that is busy. */
export async function until(check, what = "") {
  for (let at = 0; at < 6_000; at += 1) {
    if (check()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`it never came: ${what}`);
}
