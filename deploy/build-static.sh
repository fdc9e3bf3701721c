#!/usr/bin/env bash
# Builds the `halcyon` command as one static, stripped binary for this machine's processor: target/<triple>/release/halcyon.
# It needs nothing on the machine it is copied to but a Linux kernel.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flag leaves build scripts and procedural macros alone, which must stay dynamic.
RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols' \
  cargo build --release --locked --target "$triple" --package halcyon-node --bin halcyon
file "target/$triple/release/halcyon" 2>/dev/null || ls -l "target/$triple/release/halcyon"
