#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main example on a SQLite file.
#   bash examples/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash cmake/setup.sh library
if [[ -f build/release/CMakeCache.txt ]]; then
  cmake -S . -B build/release >/dev/null  # keeps what a developer, or tests/run.sh, chose
else
  cmake -G Ninja -C cmake/release.cmake -S . -B build/release -DTHROTTL_BUILD_TESTS=OFF >/dev/null
fi
cmake --build build/release --target keys

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
echo
./build/release/examples/keys "$directory/throttl.db"
