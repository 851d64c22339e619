#!/usr/bin/env bash
# Installs a build into a temporary prefix, moves the prefix, and builds and runs the programs of a
# user against it, with CMake and with pkg-config, in C++ and in C.
#   bash tests/consumer/consumer_test.sh BUILD_DIRECTORY
set -euo pipefail

build=$(realpath "$1")
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
programs=(consumer server_handler llm_tokens)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An installed tree is often moved (a package, a container layer): nothing may remember its place.
cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/prefix"
if grep -rlF -e "$work/first" -e "$build" --include=*.cmake --include=*.pc "$work/prefix"; then
  echo "these installed files remember a path of the build" >&2
  exit 1
fi

# The programs include a few headers; the user has all of them, and nothing else.
diff -r -x README.md "$source/../../include" "$work/prefix/include"

version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
configure=(cmake -G Ninja -S "$source" -DCMAKE_PREFIX_PATH="$work/prefix"
           -DCMAKE_CXX_COMPILER=g++)

echo "== find_package"
"${configure[@]}" -B "$work/cmake" -DWANTED="$version" >/dev/null
cmake --build "$work/cmake"
for program in "${programs[@]}"; do "$work/cmake/$program" "$work/cmake-$program.db"; done
if "${configure[@]}" -B "$work/newer" -DWANTED="${version%%.*}.999" >/dev/null 2>&1; then
  echo "version $version was found where a newer minor version was wanted" >&2
  exit 1
fi

echo "== pkg-config"
export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig"
read -ra cflags <<<"$(pkg-config --cflags throttl-cpp)"
read -ra libs <<<"$(pkg-config --libs throttl-cpp)"
for program in "${programs[@]}"; do
  g++ -std=c++20 "${cflags[@]}" "$source/$program.cc" "${libs[@]}" -o "$work/$program"
  "$work/$program" "$work/pkg-config-$program.db"
done

test "$(pkg-config --modversion throttl-cpp)" = "$version"

echo "== C, with pkg-config"
read -ra cflags_c <<<"$(pkg-config --cflags throttl)"
read -ra libs_c <<<"$(pkg-config --libs throttl)"
for source_c in "$source"/../../examples/c/*.c; do
  program=$(basename "$source_c" .c)
  cc -std=c99 -pedantic -Wall -Wextra -Werror "${cflags_c[@]}" "$source_c" "${libs_c[@]}" \
    -o "$work/$program"
  LD_LIBRARY_PATH="$work/prefix/lib" "$work/$program" | diff "${source_c%.c}.expected" -
done
test "$(pkg-config --modversion throttl)" = "$version"

echo "== clang"
for program in "${programs[@]}"; do
  clang++ -std=c++20 -Wall -Wextra -Wpedantic -Werror "${cflags[@]}" -fsyntax-only \
    "$source/$program.cc"
done
