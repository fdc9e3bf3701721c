#!/usr/bin/env bash
# Puts of 256 bytes on etcd, and pushes of the same on Halcyon, in turns in one run, on one machine.
#
#   tests/peers/etcd.sh [ROUNDS] [SECONDS]     5 rounds of windows of 3 seconds, if not given
#
# Three etcd nodes on loopback with fsync, data in a temporary directory that goes at the end. The load generator is
# tests/examples/beside_etcd.rs: the same loop and the same gRPC library for both sides.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} seconds=${2:-3}

if ! command -v etcd >/dev/null 2>&1; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends etcd-server etcd-client
fi
cargo build --release --package halcyon-tests --example beside_etcd
cargo build --release --package halcyon-node --bin halcyon

dir=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait || true
  rm -rf "$dir"
}
trap stop EXIT

cluster= endpoints=
for n in 0 1 2; do
  cluster+="${cluster:+,}e$n=http://127.0.0.1:$((23900 + n))"
  endpoints+="${endpoints:+,}http://127.0.0.1:$((23790 + n))"
done
for n in 0 1 2; do
  ETCD_UNSUPPORTED_ARCH=$(uname -m | grep -v x86_64 || true) etcd \
    --name "e$n" --data-dir "$dir/e$n" --log-level error --initial-cluster-state new \
    --listen-peer-urls "http://127.0.0.1:$((23900 + n))" --initial-advertise-peer-urls "http://127.0.0.1:$((23900 + n))" \
    --listen-client-urls "http://127.0.0.1:$((23790 + n))" --advertise-client-urls "http://127.0.0.1:$((23790 + n))" \
    --initial-cluster "$cluster" >"$dir/e$n.log" 2>&1 &
  pids+=($!)
done
for _ in $(seq 100); do
  ETCDCTL_API=3 etcdctl --endpoints "$endpoints" endpoint health >/dev/null 2>&1 && break
  sleep 0.2
done
ETCDCTL_API=3 etcdctl --endpoints "$endpoints" endpoint health >/dev/null 2>&1 || { cat "$dir"/*.log; exit 1; }

target/release/examples/beside_etcd "$endpoints" "$rounds" "$seconds"
