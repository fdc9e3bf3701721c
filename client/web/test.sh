#!/usr/bin/env bash
# All checks of the npm package: format, types, the engine for wasm32, the packed package, and Chromium against real
# nodes. Sets up what it needs; where something cannot be set up it says what, and exits with 77.
#
#   client/web/test.sh                    everything
#   HALCYON=path/to/halcyon …/test.sh     with a node that is built already
#   SCREENSHOTS=dir …/test.sh             keeps pictures of what it saw
set -euo pipefail
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)

step() {
  printf '\n-- %s (after %ss)\n' "$1" "$SECONDS"
}

can_apt() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# A Chromium that starts: the one that is named, the system's, else Playwright's, else Debian's.
find_chromium() {
  local found
  for found in "${CHROMIUM:-}" "$(command -v chromium || true)" "$(command -v google-chrome || true)" \
    "$(node -p 'require("playwright-core").chromium.executablePath()' 2>/dev/null || true)"; do
    if [ -n "$found" ] && "$found" --version >/dev/null 2>&1 && opens_pages "$found"; then
      export CHROMIUM=$found
      return 0
    fi
  done
  return 1
}

# Only a Chromium that does not start is one that is not there: what else goes wrong is a fault of ours.
opens_pages() {
  local status=0
  CHROMIUM=$1 timeout 120 node test/browser/starts.mjs || status=$?
  case $status in
    0) ;;
    77 | 124) return 1 ;;
    *) exit "$status" ;;
  esac
}

playwright_chromium() {
  if can_apt; then
    timeout 300 npx --no-install playwright-core install --with-deps chromium
  else
    timeout 300 npx --no-install playwright-core install chromium
  fi >/dev/null 2>&1
}

apt_chromium() {
  can_apt && apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq \
    --no-install-recommends chromium >/dev/null
}

step "build"
./build.sh

step "format and types"
npm run --silent check
npx --no-install tsc -p examples

step "units and vectors"
node --test test/unit/

step "Chromium"
find_chromium || { playwright_chromium && find_chromium; } || { apt_chromium && find_chromium; } || {
  echo "client/web: no Chromium here that opens a page, and neither Playwright nor apt can fetch one; name one with" \
    "CHROMIUM=path" >&2
  exit 77
}
"$CHROMIUM" --version

if [ -z "${HALCYON:-}" ]; then
  step "a node"
  (cd "$top" && cargo build --release --locked -p halcyon-node --bin halcyon)
  HALCYON=$top/target/release/halcyon
fi
HALCYON=$(realpath "$HALCYON")
# `halcyon dev` serves the apps of the checkout that its program lies in.
if [[ $HALCYON != "$top"/* ]]; then
  mkdir -p "$top/target"
  cp "$HALCYON" "$top/target/halcyon-given"
  HALCYON=$top/target/halcyon-given
fi
export HALCYON

# Eight minutes of browsers and nodes on a machine that may do other things as well: what fails is run once more, alone and
# from nothing. What fails twice fails. What failed once is named at the end: a fault that shows half the time does so too.
failed_once=()
twice() {
  "$@" || {
    echo "client/web: failed, once more: $*"
    "$@"
    failed_once+=("$*")
  }
}

step "the package in empty projects"
twice node test/package/run.mjs
step "two browsers in two regions"
twice node test/browser/run.mjs
step "the same with an elected tab"
twice node test/browser/run.mjs --worker dedicated
step "killed nodes, many tabs, many entities"
twice node test/browser/failures.mjs
step "captive portals, sleep, clocks, versions of an app"
twice node test/browser/network.mjs
step "the examples"
twice node test/browser/examples.mjs
if [ ${#failed_once[@]} = 0 ]; then
  step "all passed"
else
  step "all passed, $(IFS=,; echo "${failed_once[*]}") only when run once more: that may be a fault that shows at times"
fi
