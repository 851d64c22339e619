#!/usr/bin/env bash
# Installs what is missing, builds, and measures Throttl beside other limiters, all in one run.
#   bash benchmarks/compare/run.sh                 2 minutes, once all is there
#   bash benchmarks/compare/run.sh --help          other numbers of samples, and only some rows
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

python=/usr/bin/python3
[[ -x $python ]] || python=$(command -v python3) || { echo "run.sh needs python3" >&2; exit 1; }
compare=("$python" -B benchmarks/compare/compare.py)

# What only tells something needs nothing installed.
for argument in "$@"; do
  case $argument in
    -h | --help | --list) exec "${compare[@]}" "$argument" ;;
  esac
done
"${compare[@]}" --parse-only "$@"

bash cmake/setup.sh benchmarks-compare
if [[ -f build/release/CMakeCache.txt ]]; then
  cmake -S . -B build/release -DTHROTTL_BUILD_BENCHMARKS=ON >/dev/null
else
  cmake -G Ninja -C cmake/release.cmake -S . -B build/release -DTHROTTL_BUILD_TESTS=OFF \
    -DTHROTTL_BUILD_BENCHMARKS=ON >/dev/null
fi
cmake --build build/release --target throttl_peer sqlite_peer redis_peer
exec "${compare[@]}" "$@"
