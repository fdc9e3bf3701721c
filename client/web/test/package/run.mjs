// The package as people get it: packed by npm, installed into an empty project, built by Vite or loaded as it is. The
// project is the README's first app, word for word, and runs in Chromium against a node. Every other block of code in
// the README compiles.
//
//   HALCYON=target/release/halcyon node test/package/run.mjs

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { binary, browser, freePorts, later, run, shoot, test } from "../browser/harness.mjs";
import { cluster, secret } from "../browser/cluster.mjs";

const web = join(dirname(fileURLToPath(import.meta.url)), "../..");
const dir = mkdtempSync(join(tmpdir(), "halcyon-package-"));
later(() => rmSync(dir, { recursive: true, force: true }));
const nodes = await cluster(binary, await freePorts(3));
later(nodes.stop);
const key = await secret(nodes.key);

const npm = (cwd, ...words) => execFileSync("npm", words, { cwd, stdio: ["ignore", "pipe", "inherit"] });
const install = (cwd, ...what) =>
  npm(cwd, "install", "--silent", "--no-audit", "--no-fund", "--prefer-offline", ...what);

/** The README's blocks: language, the file that is named behind it, text. */
const blocks = [
  ...readFileSync(join(web, "README.md"), "utf8").matchAll(/^```(\w+) ?(\S*)\n(.*?)^```/gms),
].map(([, language, file, text]) => ({ language, file, text }));

/** A file of the README's first app, with this cluster's address and key in it. */
function file(name) {
  const block = blocks.find((block) => block.file === name);
  assert.ok(block, `the README has no ${name}`);
  return block.text.replaceAll("http://127.0.0.1:7700", nodes.node(0)).replaceAll("hk_…", key);
}

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

/** Serves a directory, as any web server does. */
async function serve(root) {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    try {
      const name = path.endsWith("/") ? `${path}index.html` : path;
      const body = readFileSync(join(root, name));
      response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "text/plain" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  later(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

let tarball;
let context;

/** The first app works: what is written shows, and another page in another browser shows it too. */
async function works(root, what) {
  const origin = await serve(root);
  const pages = [await context.newPage(), await (await browser()).newPage()];
  for (const page of pages) await page.goto(origin);
  await pages[0].getByRole("textbox").fill(what);
  await pages[0].getByRole("textbox").press("Enter");
  for (const page of pages) await page.getByText(what).waitFor();
  await pages[0].getByText("synced").waitFor();
  await shoot(pages[0], `package-${what.split(" ")[0]}`);
}

test("npm packs it, and Node imports it from an empty project", () => {
  npm(web, "pack", "--silent", "--pack-destination", dir);
  tarball = join(
    dir,
    readdirSync(dir).find((name) => name.endsWith(".tgz")),
  );
  const project = join(dir, "plain");
  mkdirSync(project);
  npm(project, "init", "-y");
  install(project, tarball);
  const code = `import { defineSchema, t } from "@halcyon/client"; defineSchema({ a: t.entity({ b: t.string() }) });`;
  execFileSync(process.execPath, ["--input-type=module", "-e", code], { cwd: project, stdio: "inherit" });
  // Its types are found as Node finds modules, too.
  writeFileSync(
    join(project, "types.mts"),
    `import { createClient, defineSchema, t } from "@halcyon/client/node";
const schema = defineSchema({ a: t.entity({ b: t.string() }) });
const db = createClient({ schema, tenant: "a", endpoints: [], auth: { key: "" } });
db.a.insert({ b: "c" });
// @ts-expect-error it is a string
db.a.insert({ b: 1 });
`,
  );
  const types = ["--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];
  execFileSync(
    join(web, "node_modules/.bin/tsc"),
    [...types, "--typeRoots", join(web, "node_modules/@types"), "types.mts"],
    {
      cwd: project,
      stdio: "inherit",
    },
  );
});

test("the README's first app, built by Vite in an empty project, runs", async () => {
  context = await browser();
  const project = join(dir, "vite");
  mkdirSync(join(project, "src"), { recursive: true });
  writeFileSync(join(project, "package.json"), '{ "name": "first", "private": true, "type": "module" }\n');
  install(project, tarball, "vite@7", "typescript@5");
  for (const name of ["index.html", "src/main.ts"]) writeFileSync(join(project, name), file(name));
  const compiler = [
    "--strict",
    "--noEmit",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
    "--target",
    "es2022",
  ];
  execFileSync(join(project, "node_modules/.bin/tsc"), [...compiler, "src/main.ts"], {
    cwd: project,
    stdio: "inherit",
  });
  execFileSync(join(project, "node_modules/.bin/vite"), ["build", "--logLevel", "warn"], {
    cwd: project,
    stdio: "inherit",
  });
  await works(join(project, "dist"), "vite built this");
});

test("without a bundler it runs from a plain script", async () => {
  const project = join(dir, "plain");
  writeFileSync(join(project, "index.html"), file("plain.html"));
  await works(project, "plain script wrote this");
});

test("every other block of the README compiles", () => {
  const project = join(dir, "readme");
  mkdirSync(project);
  cpSync(join(dir, "plain/node_modules"), join(project, "node_modules"), { recursive: true });
  writeFileSync(join(project, "package.json"), '{ "name": "readme", "private": true, "type": "module" }\n');
  cpSync(join(web, "test/package/readme.ts"), join(project, "readme.ts"));
  const code = blocks.filter(
    ({ language, file }) => (language === "ts" || language === "tsx") && file === "",
  );
  assert.ok(code.length >= 3);
  for (const [at, { text }] of code.entries()) {
    writeFileSync(
      join(project, `block-${at}.tsx`),
      `import { db, React } from "./readme";\n${text}\nexport { db, React };\n`,
    );
  }
  const options = {
    jsx: "react-jsx",
    strict: true,
    noEmit: true,
    module: "esnext",
    moduleResolution: "bundler",
  };
  const paths = {
    react: [join(web, "node_modules/@types/react")],
    "react/*": [join(web, "node_modules/@types/react/*")],
  };
  const compilerOptions = { ...options, target: "es2022", skipLibCheck: true, paths, types: [] };
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({ compilerOptions, include: ["*.ts", "*.tsx"] }),
  );
  execFileSync(process.execPath, [join(web, "node_modules/typescript/bin/tsc"), "-p", project], {
    stdio: "inherit",
  });
});

await run();
