#!/usr/bin/env bash
# Puts the limiters of others under build/compare, once, in the versions that this folder pins. One
# that cannot be had is said so, and is no failure: its rows are not measured.
#   bash benchmarks/compare/install_peers.sh
set -euo pipefail
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(realpath "$source/../..")
source "$root/cmake/once.sh"

install_governor() {  # DIRECTORY CARGO_TOML CARGO_LOCK PROGRAM
  cargo build --release --locked --manifest-path "$2" --target-dir "$1"
}

once "$root/build/compare/python" install_python "$source/requirements.txt" || true
once "$root/build/compare/node" install_node "$source/package.json" "$source/package-lock.json" ||
  true
once "$root/build/compare/cargo" install_governor "$source/Cargo.toml" "$source/Cargo.lock" \
  "$source/governor_peer.rs" || true
