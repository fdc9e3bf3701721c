// Builds the package into dist/: the engine as wasm, the page's part and the worker as modules, and their types.
//
//   node build.mjs            everything
//   node build.mjs --js       TypeScript alone, with the engine that dist/ has
//
// The engine is built by the Rust that rustup has, if it has the target wasm32-unknown-unknown (`rustup target add`
// brings it); else by Debian's Rust, which builds its standard library itself (rustc-web, cargo-web, rust-web-src, lld).

import { build } from "esbuild";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const top = join(here, "../..");
const dist = join(here, "dist");
const TARGET = "wasm32-unknown-unknown";

// Small first: the module is loaded before anything shows. No unwinding, because nothing could catch it.
const SMALL = {
  CARGO_PROFILE_RELEASE_OPT_LEVEL: "z",
  CARGO_PROFILE_RELEASE_LTO: "fat",
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "1",
  CARGO_PROFILE_RELEASE_PANIC: "abort",
  CARGO_PROFILE_RELEASE_DEBUG: "false",
  CARGO_PROFILE_RELEASE_STRIP: "symbols",
  CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS: "false",
  CARGO_INCREMENTAL: "0",
  // Nothing here draws a random number; without the flag getrandom does not compile for a browser.
  RUSTFLAGS: '--cfg getrandom_backend="unsupported"',
};

function output(command, args, options = {}) {
  const run = spawnSync(command, args, { encoding: "utf8", cwd: top, ...options });
  return run.status === 0 ? run.stdout.trim() : undefined;
}

/** How to call cargo for wasm32 here, or why it cannot be. */
function toolchain() {
  const sysroot = output("rustc", ["--print", "sysroot"]);
  if (sysroot && existsSync(join(sysroot, "lib/rustlib", TARGET))) {
    return { cargo: "cargo", env: {}, args: [], name: output("rustc", ["--version"]) };
  }
  const debian = output("/usr/bin/rustc", ["--version"]);
  const minor = Number(/rustc 1\.(\d+)/.exec(debian ?? "")?.[1] ?? 0);
  const linker = output("sh", ["-c", "command -v wasm-ld || ls /usr/bin/wasm-ld-* | tail -n 1"]);
  if (minor >= 95 && existsSync("/usr/lib/rustlib/src/rust") && linker) {
    const env = {
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker,
      RUSTC: "/usr/bin/rustc",
      RUSTC_BOOTSTRAP: "1",
      PATH: `/usr/bin:${process.env.PATH}`,
    };
    const args = ["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"];
    return { cargo: "/usr/bin/cargo", env, args, name: `${debian} of Debian, with its own std` };
  }
  console.error(
    "There is no Rust here that builds for wasm32. Do one of:\n" +
      "  rustup target add wasm32-unknown-unknown\n" +
      "  apt-get update && apt-get install -y rustc-web cargo-web rust-web-src lld      (Debian; Rust 1.95 or later)",
  );
  process.exit(1);
}

function buildEngine() {
  const { cargo, env, args, name } = toolchain();
  console.log(`engine: ${name}`);
  const target = process.env.HALCYON_WASM_TARGET ?? join(top, "target/web");
  const all = ["build", "--release", "--locked", "--target", TARGET, ...args, "-p", "halcyon-wasm"];
  execFileSync(cargo, all, {
    cwd: top,
    stdio: "inherit",
    env: { ...process.env, ...SMALL, ...env, CARGO_TARGET_DIR: target },
  });
  copyFileSync(join(target, TARGET, "release/halcyon_wasm.wasm"), join(dist, "halcyon.wasm"));
}

async function buildScripts() {
  rmSync(join(dist, "index.js"), { force: true });
  await build({
    entryPoints: {
      index: join(here, "src/index.ts"),
      react: join(here, "src/react.ts"),
      worker: join(here, "src/worker/main.ts"),
    },
    outdir: dist,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    sourcemap: true,
    legalComments: "none",
    external: ["react"],
  });
  const types = ["-p", join(here, "tsconfig.json"), "--emitDeclarationOnly", "--outDir", dist];
  execFileSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), ...types], {
    stdio: "inherit",
  });
}

function report() {
  let all = 0;
  for (const file of ["index.js", "worker.js", "halcyon.wasm"]) {
    const path = join(dist, file);
    const zipped = gzipSync(readFileSync(path), { level: 9 }).length;
    all += zipped;
    console.log(
      `${file.padEnd(14)} ${String(statSync(path).size).padStart(9)} bytes ${String(zipped).padStart(9)} gzip`,
    );
  }
  console.log(`${"together".padEnd(31)} ${String(all).padStart(9)} gzip`);
}

mkdirSync(dist, { recursive: true });
const jsOnly = process.argv.includes("--js") && existsSync(join(dist, "halcyon.wasm"));
if (!jsOnly) buildEngine();
await buildScripts();
report();
