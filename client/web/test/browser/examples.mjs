// The example apps as `halcyon dev` serves them: what they do, how they look, and whether everybody can use them.
//
//   HALCYON=target/release/halcyon SCREENSHOTS=dir node test/browser/examples.mjs

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { binary, browser, freePorts, later, run, shoot, test } from "./harness.mjs";
import { cluster } from "./cluster.mjs";

const here = dirname(fileURLToPath(import.meta.url));
/** Fewer than `halcyon dev` makes, for a machine that does other things too; ISSUES=8000 is what people see. */
const ISSUES = Number(process.env.ISSUES ?? 2_000);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const nodes = await cluster(binary, await freePorts(3), { issues: ISSUES, apps: true });
later(nodes.stop);

const address = (region, path) => `${nodes.node(region)}/demo/#/${path}`;
const context = await browser({ viewport: { width: 1360, height: 860 } });
const quiet = (page) => page.locator(".connection.synced").first().waitFor();

async function open(region, path) {
  const page = await context.newPage();
  await page.goto(address(region, path));
  await quiet(page);
  return page;
}

/** Nobody is left out: what axe-core finds by WCAG 2.2 A and AA, and by common sense. */
async function accessible(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await window.axe.run(document, { runOnly, iframes: false });
    return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
  });
  assert.deepEqual(found, []);
}

/** How another tracker's sheets become what this one reads: the README has the same. */
const IMPORTS = [
  ["user.csv", "--type", "user"],
  ["label.csv", "--type", "label", "--skip", "projectID"],
  ["issue.csv", "--type", "issue", "--skip", "projectID", "--date", "created", "--date", "modified"].concat(
    ["--ref", "creatorID=user", "--rename", "creatorID=creator"],
    ["--ref", "assigneeID=user", "--rename", "assigneeID=assignee"],
  ),
  ["comment.csv", "--type", "comment", "--date", "created"].concat(
    ["--ref", "issueID=issue", "--rename", "issueID=issue"],
    ["--ref", "creatorID=user", "--rename", "creatorID=author"],
  ),
  ["issueLabel.csv", "--merge", "--type", "issue", "--id", "issueID", "--skip", "projectID"].concat([
    "--many",
    "labelID=label",
    "--rename",
    "labelID=labels",
  ]),
];

/** The sheets of a real tracker, where they are at hand (HALCYON_DATA); else a few rows of the same shape. */
async function sheets() {
  const real = join(process.env.HALCYON_DATA ?? join(here, "../../../../../shared/data"), "zbugs");
  if (existsSync(join(real, "issue.csv"))) return real;
  const dir = await mkdtemp(join(tmpdir(), "halcyon-sheets-"));
  later(() => rm(dir, { recursive: true, force: true }));
  const made = {
    "user.csv": "id,login,role\nu1,ann,crew\nu2,bob,user\n",
    "label.csv": "id,name,projectID\nl1,bug,p\nl2,docs,p\n",
    "issue.csv":
      "id,title,open,modified,created,creatorID,assigneeID,description,visibility,projectID\n" +
      'i1,A title,true,1726473766000,1726473756000,u1,,"Lines,\n\n- with a list",public,p\n',
    "comment.csv": 'id,issueID,created,body,creatorID\nc1,i1,1726473757000.0,"Seen",u2\n',
    "issueLabel.csv": "labelID,issueID,projectID\nl1,i1,p\nl2,i1,p\n",
  };
  for (const [name, text] of Object.entries(made)) await writeFile(join(dir, name), text);
  return dir;
}

let first, second;

test("a node tells the key to its own pages only, and serves nothing but what was built", async () => {
  const asked = async (headers) => (await fetch(`${nodes.node(0)}/demo/session.json`, { headers })).status;
  assert.equal(await asked({}), 200);
  assert.equal(await asked({ "sec-fetch-site": "cross-site" }), 403);
  assert.equal(await asked({ origin: "https://evil.example" }), 403);
  for (const path of ["/demo/../Cargo.toml", "/demo/%2e%2e/%2e%2e/package.json", "/demo/package.json"]) {
    assert.equal((await fetch(nodes.node(0) + path)).status, 404, path);
  }
  const start = await fetch(nodes.node(1));
  assert.equal(start.url, `${nodes.node(1)}/demo/`);
  assert.match(start.headers.get("content-type"), /^text\/html/);
});

test("the issue tracker opens on all issues, a page at a time", async () => {
  first = await open(0, "issues");
  const rows = first.locator(".list li");
  await rows.first().waitFor();
  assert.equal(await first.locator(".connection b").textContent(), "eu-west");
  await shoot(first, "issues-list");
  await accessible(first);
  await first.waitForFunction(() => document.querySelectorAll(".list li").length >= 50);
  await first.getByRole("button", { name: "Show more" }).scrollIntoViewIfNeeded();
  await first.waitForFunction(() => document.querySelectorAll(".list li").length >= 100);
  const newest = await rows.first().locator(".number").textContent();
  assert.match(newest ?? "", /^#\d+$/);
});

test("filters narrow the list, and an empty answer says so", async () => {
  await first.getByLabel("Words in the title").fill("dark mode");
  await first.waitForFunction(() =>
    [...document.querySelectorAll(".list .title")].every((title) => /dark mode/i.test(title.textContent)),
  );
  await first.getByLabel("State", { exact: true }).selectOption("closed");
  await first.waitForFunction(() =>
    [...document.querySelectorAll(".list .status")].every((mark) => mark.classList.contains("done")),
  );
  await first.getByLabel("Words in the title").fill("no issue has these words");
  await first.getByText("No issue is like that.").waitFor();
  await first.getByLabel("Words in the title").fill("");
  await first.getByLabel("State", { exact: true }).selectOption("open");
  await first.locator(".list li").first().waitFor();
});

test("an issue is changed in one region and shows in another", async () => {
  second = await open(2, "issues");
  assert.equal(await second.locator(".connection b").textContent(), "ap-south");
  const row = first.locator(".list li a").first();
  const [title, path] = [await row.locator(".title").textContent(), await row.getAttribute("href")];
  await row.click();
  await second.goto(`${nodes.node(2)}/demo/${path}`);
  await second.locator(`.headline`).waitFor();
  assert.equal(await second.getByLabel("Title", { exact: true }).inputValue(), title);
  await first.getByLabel("Comment", { exact: true }).fill("Seen from **Europe**.");
  await first.getByRole("button", { name: "Comment", exact: true }).click();
  await second.locator("article b", { hasText: "Europe" }).waitFor();
  await second.getByLabel("Status").selectOption("review");
  await first.locator(".detail .status.review").waitFor();
  await second.locator(".pick summary").click();
  // Its state follows the data, which follow the click: no check that it changed at once.
  await second.getByRole("checkbox", { name: "security" }).click();
  await first.locator(".detail .pick summary .label", { hasText: "security" }).waitFor();
  await shoot(first, "issues-detail");
  await accessible(first);
  await second.keyboard.press("Escape");
});

test("the board has a column for each status, and a card moves everywhere", async () => {
  await first.getByRole("link", { name: "Board", exact: true }).click();
  await second.goto(address(2, "issues/board"));
  const column = (page, name) => page.getByRole("region", { name });
  const card = column(first, "In progress").locator(".card").first();
  await card.waitFor();
  const title = (await card.locator("a").textContent()) ?? "";
  const count = await column(second, "In review").locator(".card", { hasText: title }).count();
  await card.getByRole("combobox").selectOption("review");
  const moved = column(second, "In review").locator(".card", { hasText: title });
  await moved.nth(count).waitFor();
  await shoot(first, "issues-board");
  await accessible(first);
});

test("people see each other: who is here, who looks at the same issue, and where they point", async () => {
  // Whoever comes last in the order of regions is another person by default.
  await second
    .getByRole("list", { name: "Also here" })
    .getByText("in eu-west")
    .waitFor({ state: "attached" });
  const path = await first.locator(".card a").first().getAttribute("href");
  for (const [at, page] of [first, second].entries()) await page.goto(`${nodes.node(2 * at)}/demo/${path}`);
  for (const page of [first, second])
    await page.getByRole("list", { name: "Also looking at this issue" }).waitFor();
  const about = (page) => page.locator("[data-at^=about]");
  await about(first).hover({ position: { x: 40, y: 30 } });
  const pointer = second.locator(".pointer");
  await pointer.waitFor();
  const box = await about(second).boundingBox();
  await second.waitForFunction(
    ([x, y]) => {
      const { left, top } = document.querySelector(".pointer svg").getBoundingClientRect();
      return Math.abs(left - x) < 3 && Math.abs(top - y) < 3;
    },
    [box.x + 40, box.y + 30],
  );
  await shoot(second, "issues-together");
  await accessible(second);
  await first.mouse.move(2, 2);
  await pointer.waitFor({ state: "detached" });
  for (const page of [first, second]) await page.keyboard.press("Escape");
});

test("the tracker can be used by keyboard alone", async () => {
  await first.goto(address(0, "issues"));
  await first.locator(".list li").first().waitFor();
  const focused = (page) => page.evaluate(() => document.activeElement?.getAttribute("href"));
  const links = first.locator(".list li a");
  await first.keyboard.press("j");
  await first.keyboard.press("j");
  await first.keyboard.press("k");
  await first.keyboard.press("j");
  const chosen = await links.nth(1).getAttribute("href");
  assert.equal(await focused(first), chosen);
  await first.keyboard.press("Enter");
  await first.locator(".detail .headline").waitFor();
  await first.keyboard.press("Escape");
  await first.locator(".detail").waitFor({ state: "detached" });
  assert.equal(await focused(first), chosen);
  await first.keyboard.press("/");
  await first.keyboard.type("dark");
  await first.waitForFunction(() =>
    [...document.querySelectorAll(".list .title")].every((title) => /dark/i.test(title.textContent)),
  );
  await first.keyboard.press("Escape");
  await first.keyboard.press("c");
  assert.equal(await first.evaluate(() => document.activeElement?.ariaLabel), "Title of a new issue");
  await first.goto(address(0, "issues/board"));
  await first.reload();
  await quiet(first);
});

test("offline, changes are kept, counted and sent later", async () => {
  await second.getByRole("button", { name: "Go offline" }).click();
  await second.locator(".connection.offline").waitFor();
  await second.getByLabel("Title of a new issue").fill("Written without a network");
  await second.getByRole("button", { name: "Add", exact: true }).click();
  await second.getByText("1 change waiting").waitFor();
  await shoot(second, "issues-offline");
  await second.getByRole("button", { name: "Go online" }).click();
  await first.locator(".card", { hasText: "Written without a network" }).waitFor();
  await quiet(second);
  await Promise.all([first.close(), second.close()]);
});

test("side by side, a region that is cut off goes on, and both agree afterwards", async () => {
  const page = await context.newPage();
  await page.goto(nodes.node(0));
  const [left, right] = ["eu-west", "ap-south"].map((region) =>
    page.frameLocator(`iframe[title$="${region}"]`),
  );
  for (const pane of [left, right]) await pane.locator(".list li").first().waitFor();
  await page.locator(".pane h2.synced").nth(1).waitFor();
  await shoot(page, "side-connected");
  await accessible(page);
  await page.getByRole("switch").click();
  await page.locator(".pane.cut").waitFor();
  await right.locator(".connection.offline").waitFor();
  const add = async (pane, title) => {
    await pane.getByLabel("Title of a new issue").fill(title);
    await pane.getByRole("button", { name: "Add", exact: true }).click();
    await pane.locator(".detail").waitFor();
    await pane.getByRole("button", { name: "Back to all issues" }).click();
    await pane.locator(".list li", { hasText: title }).waitFor();
  };
  await add(left, "Made in Europe meanwhile");
  await add(right, "Made in Asia meanwhile");
  await page.locator(".pane.cut .standing", { hasText: "1 change waiting" }).waitFor();
  assert.equal(await left.locator(".list li", { hasText: "Made in Asia" }).count(), 0);
  assert.equal(await right.locator(".list li", { hasText: "Made in Europe" }).count(), 0);
  await shoot(page, "side-cut");
  await page.getByRole("switch").click();
  await left.locator(".list li", { hasText: "Made in Asia" }).waitFor();
  await right.locator(".list li", { hasText: "Made in Europe" }).waitFor();
  await page.getByText("ap-south is back").waitFor();
  await shoot(page, "side-again");
  await page.close();
});

test("the to-do list works for two, in two regions", async () => {
  [first, second] = [await open(1, "todo"), await open(2, "todo")];
  for (const text of ["Water the plants", "Write to grandmother"]) {
    await first.getByLabel("What is to be done?").fill(text);
    await first.getByRole("button", { name: "Add" }).click();
  }
  await second.getByLabel("Water the plants", { exact: true }).click();
  await first.locator("li.done", { hasText: "Water the plants" }).waitFor();
  await second.getByRole("button", { name: "Go offline" }).click();
  await second.locator(".connection.offline").waitFor();
  await second.getByRole("button", { name: "Delete Write to grandmother" }).click();
  await second.getByText("1 change waiting").waitFor();
  assert.equal(await first.locator("li").count(), 2);
  await shoot(first, "todo");
  await accessible(first);
  await second.getByRole("button", { name: "Go online" }).click();
  await first.locator("li", { hasText: "grandmother" }).waitFor({ state: "detached" });
});

test("the tracker opens what was imported from another one", async () => {
  const { key } = JSON.parse(
    await nodes.halcyon("--json", "tenant", "create", "real", "--regions", "eu-west,us-east,ap-south"),
  );
  const dir = await sheets();
  for (const [file, ...how] of IMPORTS)
    await nodes.halcyon("--key", key, "import", join(dir, file), "--tenant", "real", ...how);
  const page = await context.newPage();
  const query = new URLSearchParams({ tenant: "real", key, node: nodes.node(0) });
  await page.goto(`${nodes.node(0)}/demo/?${query}#/issues`);
  await quiet(page);
  await page.locator(".list .label").first().waitFor();
  await page.locator(".list li a").first().click();
  await page.locator(".detail .headline").waitFor();
  await page.getByText(/^by (?!Somebody)/).waitFor();
  await shoot(page, "issues-imported");
  await accessible(page);
  await page.close();
});

test("without a session the page says what to do", async () => {
  const page = await context.newPage();
  await page.route("**/session.json", (route) => route.fulfill({ status: 403, body: "no" }));
  await page.goto(address(0, "issues"));
  await page.getByRole("alert").waitFor();
  await accessible(page);
});

await run();
