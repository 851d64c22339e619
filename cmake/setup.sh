#!/usr/bin/env bash
# Installs the Debian packages that Throttl needs, and nothing when they are all there.
#   bash cmake/setup.sh library      what building and linking the library takes
#   bash cmake/setup.sh benchmarks   that, and what benchmarks/ uses
#   bash cmake/setup.sh benchmarks-compare   that, and what benchmarks/compare uses; the limiters of
#                                    PyPI, npm and crates.io go into build/compare
#   bash cmake/setup.sh tests        all of that, and what tests/run.sh uses; a parser each
#                                    from PyPI and npm goes into build/oracles
set -euo pipefail

library=(g++ cmake ninja-build pkg-config ccache libabsl-dev libsqlite3-dev libxxhash-dev
         libssl-dev zlib1g-dev libutfcpp-dev nlohmann-json3-dev tzdata)
tests=(doctest-dev librapidcheck-dev clang clang-tidy clang-format python3 python3-venv nodejs npm
       gdb bindfs fuse3 sqlite3 procps util-linux)
benchmarks=(libbenchmark-dev libhiredis-dev)
# redis-tools has the program of the server as well, and starts no service.
compare=(python3 python3-venv nodejs npm redis-tools util-linux)
command -v cargo >/dev/null || compare+=(cargo-web)  # Debian's cargo is too old for governor

case "${1:-}" in
  library) wanted=("${library[@]}") ;;
  tests) wanted=("${library[@]}" "${benchmarks[@]}" "${tests[@]}") ;;
  benchmarks) wanted=("${library[@]}" "${benchmarks[@]}") ;;
  benchmarks-compare) wanted=("${library[@]}" "${benchmarks[@]}" "${compare[@]}") ;;
  *) echo "usage: bash cmake/setup.sh library|tests|benchmarks|benchmarks-compare" >&2; exit 2 ;;
esac

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup.sh installs packages on Debian 12 and Ubuntu 22.10 or newer; elsewhere, install" \
         "the like of: ${wanted[*]}" >&2
    return  # they may be there: the configure step says what is not
  fi

  # The virtual package pkg-config is provided by pkgconf in newer releases, and so on: a package
  # counts as there when dpkg knows it, or something that provides it, as installed.
  local installed package missing=()
  installed=" $(dpkg-query --show -f '${db:Status-Status}:${Package} ${Provides}\n' |
    sed -n 's/^installed://p' | sed 's/([^)]*)//g' | tr ',\n' '  ' | tr -s ' ') "
  for package in "${wanted[@]}"; do
    [[ "$installed" == *" $package "* ]] || missing+=("$package")
  done
  (( ${#missing[@]} )) || return 0

  local as_root=()
  if [[ "$(id -u)" != 0 ]]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "setup.sh needs root, or sudo without a password, to install: ${missing[*]}" >&2
      echo "Ask an administrator to run: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  echo "installing ${missing[*]}"
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends \
    -o Dpkg::Use-Pty=0 install "${missing[@]}" </dev/null
}

install_packages
root=$(dirname "${BASH_SOURCE[0]}")/..
case $1 in
  tests) bash "$root/tests/http/install_oracles.sh" ;;
  benchmarks-compare) bash "$root/benchmarks/compare/install_peers.sh" ;;
esac
