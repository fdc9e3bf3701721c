// Whether Chromium starts and opens a page here at all: where it does not, no test of ours can say anything.

import assert from "node:assert/strict";
import { browser, run, test } from "./harness.mjs";

test("Chromium opens a page", async () => {
  const context = await browser();
  const page = await context.newPage();
  assert.equal(await page.evaluate(() => 6 * 7), 42);
});

await run();
