#!/usr/bin/env bash
# Installs what is missing, builds, and runs every check of the tree.
#   bash tests/run.sh           everything
#   bash tests/run.sh --quick   the release build and its tests, the long ones at a tenth of it
# THROTTL_TEST_SCALE sizes the long tests, in percent (100; under sanitizers 10). Logs: build/log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

quick=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  *) echo "usage: bash tests/run.sh [--quick]" >&2; exit 2 ;;
esac

jobs=$(nproc)
log=$PWD/build/log
mkdir -p "$log"
times=() summaries=()
passed=0 failed=0 skipped=0

count() {  # PASSED FAILED SKIPPED
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# Runs one part with its output in a log as well, and keeps its time.
part() {  # NAME COMMAND...
  local name=$1 start=$SECONDS status=0
  shift
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$log/$name.log" || status=$?
  times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
  return "$status"
}

check() {  # NAME COMMAND...: a part that is one test
  if part "$@"; then
    summaries+=("$1: passed")
    count 1 0 0
  else
    summaries+=("$1: FAILED")
    count 0 1 0
  fi
}

build() {  # KIND
  # Benchmarks are only compiled, so that they go on building.
  local benchmarks=OFF
  if [[ $1 == release ]]; then benchmarks=ON; fi
  # Without its cache file, a build directory is made anew from cmake/KIND.cmake.
  if [[ -f build/$1/build.ninja ]]; then
    cmake -S . -B "build/$1" -DTHROTTL_BUILD_TESTS=ON -DTHROTTL_BUILD_EXAMPLES=ON \
      -DTHROTTL_BUILD_BENCHMARKS=$benchmarks
  else
    cmake -G Ninja -C "cmake/$1.cmake" -S . -B "build/$1" -DTHROTTL_BUILD_TESTS=ON \
      -DTHROTTL_BUILD_BENCHMARKS=$benchmarks
  fi >"$log/configure-$1.log" || { cat "$log/configure-$1.log"; return 1; }
  cmake --build "build/$1" -j "$jobs"
}

attribute() {  # NAME FILE: of the testsuite element of a JUnit file
  sed -n "s/^[[:space:]]*$1=\"\([0-9]*\)\".*/\1/p" "$2" | head -n 1
}

suite() {  # KIND SCALE [WRAPPER...]: builds, and runs what ctest knows
  local kind=$1 scale=$2 junit=$log/ctest-$1.xml
  shift 2
  if ! part "build-$kind" build "$kind"; then
    summaries+=("build-$kind: FAILED")
    count 0 1 0
    return
  fi
  rm -f "$junit"
  THROTTL_TEST_SCALE=${THROTTL_TEST_SCALE:-$scale} part "ctest-$kind" "$@" ctest \
    --test-dir "build/$kind" --output-on-failure --no-tests=error -j "$jobs" --timeout 900 \
    --output-junit "$junit" || true
  if [[ ! -f $junit ]]; then
    summaries+=("ctest-$kind: FAILED, it did not run")
    count 0 1 0
    return
  fi
  local all fails skips
  all=$(attribute tests "$junit") fails=$(attribute failures "$junit")
  skips=$(($(attribute skipped "$junit") + $(attribute disabled "$junit")))
  summaries+=("ctest-$kind: $(grep -E '^[0-9]+% tests passed' "$log/ctest-$kind.log" || true)")
  count $((all - fails - skips)) "$fails" "$skips"
}

# ThreadSanitizer of g++ 12 needs the old, narrow address randomisation where that may be asked for.
narrow=()
if setarch -R true 2>/dev/null; then narrow=(setarch -R); fi
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

part setup bash cmake/setup.sh tests
if $quick; then
  suite release 10
else
  suite release 100
  check clang /usr/bin/python3 tests/clang_check.py build/release
  suite asan 10
  suite tsan 10 "${narrow[@]}"
fi

printf '\n=== time\n'
printf '%s\n' "${times[@]}"
printf '%5d s  in all\n' "$SECONDS"
printf '\n=== summary\n'
printf '%s\n' "${summaries[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
