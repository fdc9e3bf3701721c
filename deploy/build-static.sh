#!/usr/bin/env bash
# Builds the `halcyon` command as one static, stripped binary for this machine's processor, in
# target/<triple>/release/halcyon (or under CARGO_TARGET_DIR). It needs nothing on the machine it is copied to but a Linux
# kernel and /dev/urandom. Ends with an error where what was built is not static or does not start.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(rustc -vV | sed -n 's/^host: //p')
# What `halcyon --version` tells.
if commit=$(git rev-parse --short=12 HEAD 2>/dev/null); then
  export HALCYON_COMMIT=$commit
fi
# With --target the flag leaves build scripts and procedural macros alone, which must stay dynamic.
RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols' \
  cargo build --release --locked --target "$triple" --package halcyon-node --bin halcyon
binary=${CARGO_TARGET_DIR:-target}/$triple/release/halcyon
if ldd "$binary" 2>/dev/null | grep -q '=>'; then
  echo "$binary needs libraries of this machine:" >&2
  ldd "$binary" >&2
  exit 1
fi
"$binary" --version
ls -l "$binary"
