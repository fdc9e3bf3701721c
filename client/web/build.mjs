// Builds the package into dist/: the engine as wasm, the page's part and the worker as modules, and their types.
//
//   node build.mjs            everything
//   node build.mjs --js       TypeScript alone, with the engine that dist/ has
//
// The engine is built by the Rust that rustup has, with a standard library of its own where rustup has its source
// (`rustup component add rust-src`), else with rustup's (`rustup target add wasm32-unknown-unknown`); or by Debian's Rust
// with a standard library of its own (rustc-web, cargo-web, rust-web-src, lld).

import { build } from "esbuild";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { pack } from "./pack.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const top = join(here, "../..");
const dist = join(here, "dist");
const TARGET = "wasm32-unknown-unknown";

// Small, because the module is loaded before anything shows. "z" comes to the same size and the same times where inlining is
// bounded as below; docs/decisions/0001 has what each step weighs and takes. No unwinding, because nothing could catch it.
const SMALL = {
  CARGO_PROFILE_RELEASE_OPT_LEVEL: "s",
  CARGO_PROFILE_RELEASE_LTO: "fat",
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "1",
  CARGO_PROFILE_RELEASE_PANIC: "abort",
  CARGO_PROFILE_RELEASE_DEBUG: "false",
  // Names stay for tools that say what weighs how much; `pack` drops them.
  CARGO_PROFILE_RELEASE_STRIP: "none",
  CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS: "false",
  CARGO_INCREMENTAL: "0",
};

/**
 * Nothing here draws a random number; without the flag getrandom does not compile for a browser. What is marked for
 * inlining is inlined where it is short: more makes the module larger, and nothing faster by more than the noise.
 */
const FLAGS = '--cfg getrandom_backend="unsupported" -Cllvm-args=-inlinehint-threshold=30';

function output(command, args, options = {}) {
  const run = spawnSync(command, args, { encoding: "utf8", cwd: top, ...options });
  return run.status === 0 ? run.stdout.trim() : undefined;
}

/**
 * A standard library of the module's own, which takes flags that are not stable: it sorts in small forms, where rustup's has
 * two dozen large ones, and a panic says nothing, because nobody could hear it, so that its words need not be fetched.
 */
const OWN_STD = {
  env: {
    RUSTC_BOOTSTRAP: "1",
    CARGO_PROFILE_RELEASE_PANIC: "immediate-abort",
    RUSTFLAGS: `${FLAGS} -Zlocation-detail=none`,
  },
  args: ["panic-immediate-abort", "build-std=std", "build-std-features=optimize_for_size"].flatMap((flag) => [
    "-Z",
    flag,
  ]),
};

/** How cargo can be called for wasm32 here: what makes the smallest module first. */
function toolchains() {
  const found = [];
  const name = output("rustc", ["--version"]);
  const sysroot = output("rustc", ["--print", "sysroot"]);
  const has = (path) => sysroot !== undefined && existsSync(join(sysroot, "lib/rustlib", path));
  // Debian's, without rustup, has its source there, too, and needs to be told of its linker.
  if (sysroot !== "/usr" && has("src/rust/library/Cargo.lock")) {
    found.push({ cargo: "cargo", ...OWN_STD, name: `${name}, with its own std` });
  }
  if (has(TARGET)) found.push({ cargo: "cargo", env: { RUSTFLAGS: FLAGS }, args: [], name });
  const debian = output("/usr/bin/rustc", ["--version"]);
  const minor = Number(/rustc 1\.(\d+)/.exec(debian ?? "")?.[1] ?? 0);
  const linker = output("sh", ["-c", "command -v wasm-ld || ls /usr/bin/wasm-ld-* | tail -n 1"]);
  if (minor >= 95 && existsSync("/usr/lib/rustlib/src/rust") && linker) {
    const env = {
      ...OWN_STD.env,
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker,
      RUSTC: "/usr/bin/rustc",
      PATH: `/usr/bin:${process.env.PATH}`,
    };
    found.push({
      cargo: "/usr/bin/cargo",
      env,
      args: OWN_STD.args,
      name: `${debian} of Debian, with its own std`,
    });
  }
  return found;
}

function buildEngine() {
  const target = process.env.HALCYON_WASM_TARGET ?? join(top, "target/web");
  const built = toolchains().some(({ cargo, env, args, name }) => {
    console.log(`engine: ${name}`);
    const all = ["build", "--release", "--locked", "--target", TARGET, ...args, "-p", "halcyon-wasm"];
    const options = {
      cwd: top,
      stdio: "inherit",
      env: { ...process.env, ...SMALL, ...env, CARGO_TARGET_DIR: target },
    };
    return spawnSync(cargo, all, options).status === 0;
  });
  if (!built) {
    console.error(
      "No Rust here has built it for wasm32. Do one of these, or see above:\n" +
        "  rustup component add rust-src\n" +
        "  rustup target add wasm32-unknown-unknown          (the module is a tenth larger)\n" +
        "  apt-get update && apt-get install -y rustc-web cargo-web rust-web-src lld      (Debian; Rust 1.95 or later)",
    );
    process.exit(1);
  }
  const module = readFileSync(join(target, TARGET, "release/halcyon_wasm.wasm"));
  writeFileSync(join(dist, "halcyon.wasm"), pack(module));
}

async function buildScripts() {
  rmSync(join(dist, "index.js"), { force: true });
  const entries = {
    index: "src/index.ts",
    react: "src/react.ts",
    svelte: "src/svelte.ts",
    worker: "src/worker/main.ts",
  };
  const paths = Object.entries(entries).map(([name, path]) => [name, join(here, path)]);
  const options = {
    outdir: dist,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    sourcemap: true,
    legalComments: "none",
    external: ["react", "svelte"],
  };
  await build({ ...options, entryPoints: Object.fromEntries(paths) });
  await build({ ...options, entryPoints: { node: join(here, "src/node/index.ts") }, platform: "node" });
  const types = ["-p", join(here, "tsconfig.json"), "--emitDeclarationOnly", "--outDir", dist];
  execFileSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), ...types], {
    stdio: "inherit",
  });
  for (const name of readdirSync(dist, { recursive: true })) {
    if (!name.endsWith(".d.ts")) continue;
    const file = join(dist, name);
    // Node's own resolution, of which TypeScript has one too, asks for whole names.
    writeFileSync(file, readFileSync(file, "utf8").replaceAll(/((?:from |import\()"\.[^"]*)"/g, '$1.js"'));
  }
}

function report() {
  const all = [0, 0, 0];
  const line = (name, numbers) =>
    console.log(name.padEnd(14) + numbers.map((n) => `${n}`.padStart(12)).join(""));
  line("bytes", ["plain", "gzip", "brotli"]);
  for (const file of ["index.js", "worker.js", "halcyon.wasm"]) {
    const bytes = readFileSync(join(dist, file));
    const numbers = [bytes, gzipSync(bytes, { level: 9 }), brotliCompressSync(bytes)].map(
      ({ length }) => length,
    );
    for (const [at, number] of numbers.entries()) all[at] += number;
    line(file, numbers);
  }
  line("together", all);
}

mkdirSync(dist, { recursive: true });
const jsOnly = process.argv.includes("--js") && existsSync(join(dist, "halcyon.wasm"));
if (!jsOnly) buildEngine();
await buildScripts();
report();
