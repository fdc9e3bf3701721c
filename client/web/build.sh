#!/usr/bin/env bash
# Builds the npm package (dist/) and the example apps (examples/dist/), and sets up what that needs: npm's packages, and
# Rust for WebAssembly. `halcyon dev` runs it where the apps are not built yet.
#
# Steps go to stdout, a line each. What the tools say goes to stderr; where something fails, its last line is why. Exits
# with 77 where something that it needs cannot be had here, with 1 where something does not build.
set -euo pipefail
cd "$(dirname "$0")"
# Vite 7 asks for it.
NODE_MAJOR_MIN=20

fail() {
  echo "$*" >&2
  exit 1
}

lacks() {
  echo "$*" >&2
  exit 77
}

has_wasm_rust() {
  local library
  library=$(rustc --print sysroot 2>/dev/null)/lib/rustlib
  [ -d "$library/src/rust/library" ] || [ -d "$library/wasm32-unknown-unknown" ] ||
    { [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust ] && command -v wasm-ld >/dev/null 2>&1; }
}

# The source, of which the module gets a standard library of its own, and a finished one for a Rust that cannot do that.
rustup_wasm_rust() {
  command -v rustup >/dev/null 2>&1 || return 1
  rustup component add rust-src >&2 || true
  rustup target add wasm32-unknown-unknown >&2
}

# Debian's Rust builds its own standard library; only root can install it.
apt_wasm_rust() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  echo "     rustup cannot; installing Debian's rustc-web, cargo-web, rust-web-src and lld"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    rustc-web cargo-web rust-web-src lld; } >&2
}

command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 ||
  lacks "needs Node.js $NODE_MAJOR_MIN or later with npm (https://nodejs.org)"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge "$NODE_MAJOR_MIN" ] || lacks "needs Node.js $NODE_MAJOR_MIN or later; here is $(node --version)"

echo "1/4  packages from npm"
if ! [ node_modules/.package-lock.json -nt package-lock.json ]; then
  npm ci --no-audit --no-fund >&2 || lacks "npm ci failed: is the registry within reach?"
fi

echo "2/4  Rust for WebAssembly"
rustup_wasm_rust || has_wasm_rust || apt_wasm_rust || true
has_wasm_rust || lacks "needs Rust for wasm32: rustup component add rust-src"

echo "3/4  the engine and the package (some minutes the first time)"
node build.mjs >&2 || fail "the package did not build"

echo "4/4  the example apps"
node_modules/.bin/vite build examples --logLevel warn >&2 || fail "the example apps did not build"
