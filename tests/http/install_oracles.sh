#!/usr/bin/env bash
# Puts the parsers that the headers are compared with under build/oracles, once: http-sf from PyPI
# and ratelimit-header-parser from npm, in the versions that this folder pins. A parser that cannot
# be had is said so, and is no failure: the test that needs it is skipped.
#   bash tests/http/install_oracles.sh
set -euo pipefail
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
oracles=$source/../../build/oracles

# Runs COMMAND unless it has succeeded before for these very files.
once() {  # NAME COMMAND FILE...
  local name=$1 command=$2 wanted
  shift 2
  wanted=$(cat "$@" | sha256sum)
  if [[ "$(cat "$oracles/$name/installed" 2>/dev/null)" == "$wanted" ]]; then return; fi
  echo "installing the $name oracle of tests/http"
  rm -rf "${oracles:?}/$name"
  mkdir -p "$oracles/$name"
  if "$command" "$oracles/$name" >"$oracles/$name/log" 2>&1 </dev/null; then
    echo "$wanted" >"$oracles/$name/installed"
  else
    tail -n 5 "$oracles/$name/log" >&2
    echo "the $name oracle could not be installed: the test that needs it is skipped" >&2
  fi
}

install_python() {  # DIRECTORY
  local python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  "$python" -m venv "$1/venv" &&
    "$1/venv/bin/python" -m pip install --disable-pip-version-check --no-input --require-hashes \
      --only-binary :all: -r "$source/requirements.txt"
}

install_node() {  # DIRECTORY
  cp "$source/package.json" "$source/package-lock.json" "$1" &&
    cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier
}

once python install_python "$source/requirements.txt"
once node install_node "$source/package.json" "$source/package-lock.json"
