#!/usr/bin/env bash
# All checks of the npm package: format, types, the engine for wasm32, and browsers against real nodes. Sets up what it
# needs; where something cannot be set up it says what, and fails.
#
#   client/web/test.sh                    everything
#   HALCYON=path/to/halcyon …/test.sh     with a node that is built already
set -euo pipefail
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)

need() { # program, how to get it
  command -v "$1" >/dev/null 2>&1 || { echo "client/web: needs $1: $2" >&2; exit 1; }
}

apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

has_wasm_rust() {
  [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/wasm32-unknown-unknown" ] ||
    { [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust ] && command -v wasm-ld >/dev/null 2>&1; }
}

need node "https://nodejs.org, version 20 or later"
need npm "it comes with Node.js"
npm ci --no-audit --no-fund --silent
has_wasm_rust || rustup target add wasm32-unknown-unknown 2>/dev/null || apt_install rustc-web cargo-web rust-web-src lld || true
node build.mjs
npm run --silent check
node --test test/unit/
for example in examples/*/; do
  npx tsc -p "$example"
  npx vite build "$example" --logLevel warn
done

# The package as it would be installed: into an empty project, and imported there.
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
npm pack --silent --pack-destination "$packed" >/dev/null
(
  cd "$packed"
  npm init -y >/dev/null
  npm install --silent --no-audit --no-fund ./halcyon-client-*.tgz
  node --input-type=module -e 'import { defineSchema, t } from "@halcyon/client";
    defineSchema({ a: t.entity({ b: t.string() }) });'
)

export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v google-chrome || true)}
if [ -z "$CHROMIUM" ]; then
  apt_install chromium || { echo "client/web: needs chromium for its tests" >&2; exit 1; }
  CHROMIUM=$(command -v chromium)
fi
if [ -z "${HALCYON:-}" ]; then
  (cd "$top" && cargo build --release --locked -p halcyon-node)
  export HALCYON=$top/target/release/halcyon
fi
node test/browser/run.mjs
node test/browser/run.mjs --worker dedicated
