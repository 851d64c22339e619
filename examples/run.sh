#!/usr/bin/env bash
# Installs what is missing, builds, and replays 10,000 real requests of 1,753 clients on a SQLite
# file: who would have been refused.
#   bash examples/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash cmake/setup.sh library
if [[ -f build/release/CMakeCache.txt ]]; then
  cmake -S . -B build/release >/dev/null  # keeps what a developer, or tests/run.sh, chose
else
  cmake -G Ninja -C cmake/release.cmake -S . -B build/release -DTHROTTL_BUILD_TESTS=OFF >/dev/null
fi
cmake --build build/release --target replay

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
echo
./build/release/examples/replay --db "sqlite:$directory/throttl.db" examples/data/requests.csv
