#!/usr/bin/env bash
# The queries of `halcyon bench query` beside DataScript in Node, in turns in one run, on a million triples in memory.
#
#   tests/peers/datascript.sh [ROUNDS]     3 rounds, if not given
#
# DataScript comes from npm into a temporary directory that goes at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --package halcyon-node --bin halcyon
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf '{"private": true}\n' >"$dir/package.json"
npm install --prefix "$dir" --no-audit --no-fund --silent datascript@1.8.1
node --expose-gc --max-old-space-size=6144 tests/peers/datascript.mjs "$dir" target/release/halcyon "${1:-3}"
