// What browser tests share: Chromium, a place for screenshots, and a runner that says what failed.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));

export const binary = resolve(process.env.HALCYON ?? join(here, "../../../../target/release/halcyon"));

/** A machine that does many things at once is slow, not wrong. */
export const WAIT_MS = 60_000;

export const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const opened = [];
const atEnd = [];

/** What to do when the tests are over, the last first. */
export const later = (task) => atEnd.push(task);

/** A browser of its own, with nothing stored. */
export async function browser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "halcyon-browser-"));
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: FLAGS,
    ...options,
  });
  context.setDefaultTimeout(WAIT_MS);
  context.on("page", (page) => {
    page.on("pageerror", (error) => console.error(`page: ${error}`));
  });
  opened.push({ profile, context });
  // For who looks for its processes.
  return Object.assign(context, { profile });
}

/** With SCREENSHOTS=dir, what a page looks like. */
export async function shoot(page, name) {
  const dir = process.env.SCREENSHOTS;
  if (dir) await page.screenshot({ path: join(dir, `${name}.png`) });
}

/** The first of `count` ports, and as many ten higher, that nobody has now. */
export async function freePorts(count) {
  const isFree = (port) =>
    new Promise((resolve) => {
      const server = createServer().once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
  for (;;) {
    // Below what systems give to outgoing connections.
    const first = 10_000 + Math.floor(Math.random() * 20_000);
    const wanted = Array.from({ length: count }, (_, at) => [first + at, first + 10 + at]).flat();
    if ((await Promise.all(wanted.map(isFree))).every(Boolean)) return first;
  }
}

const tests = [];
export const test = (name, body) => tests.push({ name, body });

/** Runs the tests in their order; they build on each other, so the first that fails is the last. */
export async function run() {
  let failed = 0;
  for (const { name, body } of tests) {
    const from = performance.now();
    try {
      await body();
      console.log(`ok   ${name} (${Math.round(performance.now() - from)} ms)`);
    } catch (error) {
      failed = 1;
      console.log(`FAIL ${name}\n${error instanceof Error ? error.stack : error}`);
      await shootAll();
      break;
    }
  }
  for (const { profile, context } of opened) {
    await context.close().catch(() => undefined);
    await rm(profile, { recursive: true, force: true }).catch(() => undefined);
  }
  for (const task of atEnd.reverse()) await task();
  process.exit(failed);
}

/** What the open pages look like when a test fails. */
async function shootAll() {
  if (!process.env.SCREENSHOTS) return;
  const before = (await readdir(process.env.SCREENSHOTS)).length;
  const pages = opened.flatMap(({ context }) => context.pages());
  for (const [at, page] of pages.entries()) await shoot(page, `failed-${before + at}`).catch(() => undefined);
}
