// Whether a Chromium opens a page here at all: where none does, no test of ours can say anything.
//
//   CHROMIUM=path node starts.mjs        77 where it does not

import { chromium } from "playwright-core";
import { FLAGS, WAIT_MS } from "./harness.mjs";

const executablePath = process.env.CHROMIUM;
try {
  const browser = await chromium.launch({ executablePath, args: FLAGS, timeout: WAIT_MS });
  const page = await browser.newPage();
  await page.goto("data:text/html,<title>here</title>", { timeout: WAIT_MS });
  await browser.close();
} catch (error) {
  console.error(`${executablePath} does not open a page here: ${error}`);
  process.exit(77);
}
