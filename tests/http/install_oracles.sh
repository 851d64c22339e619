#!/usr/bin/env bash
# Puts the parsers that the headers are compared with under build/oracles, once: http-sf from PyPI
# and ratelimit-header-parser from npm, in the versions that this folder pins. A parser that cannot
# be had is said so, and is no failure: the test that needs it is skipped.
#   bash tests/http/install_oracles.sh
set -euo pipefail
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
root=$(realpath "$source/../..")
source "$root/cmake/once.sh"

once "$root/build/oracles/python" install_python "$source/requirements.txt" ||
  echo "the test that needs it is skipped" >&2
once "$root/build/oracles/node" install_node "$source/package.json" "$source/package-lock.json" ||
  echo "the test that needs it is skipped" >&2
