# A function for the scripts that install what others have made; to be sourced.

# Runs COMMAND DIRECTORY FILE..., unless it has succeeded before for these very files. DIRECTORY is
# empty then, and its log has what COMMAND printed. A failure is said, and returned.
once() {  # DIRECTORY COMMAND FILE...
  local directory=$1 command=$2 wanted
  shift 2
  wanted=$(cat "$@" | sha256sum)
  if [[ "$(cat "$directory/installed" 2>/dev/null)" == "$wanted" ]]; then return; fi
  echo "installing ${directory##*/build/}"
  rm -rf "${directory:?}"
  mkdir -p "$directory"
  if "$command" "$directory" "$@" >"$directory/log" 2>&1 </dev/null; then
    echo "$wanted" >"$directory/installed"
  else
    tail -n 5 "$directory/log" >&2
    echo "${directory##*/build/} could not be installed" >&2
    return 1
  fi
}

# A virtual environment with exactly what a file of requirements names, by hash.
install_python() {  # DIRECTORY REQUIREMENTS
  local python=/usr/bin/python3
  [[ -x $python ]] || python=python3
  "$python" -m venv "$1/venv" &&
    "$1/venv/bin/python" -m pip install --disable-pip-version-check --no-input --require-hashes \
      --only-binary :all: -r "$2"
}

# Exactly what a package-lock.json names.
install_node() {  # DIRECTORY PACKAGE_JSON PACKAGE_LOCK_JSON
  cp "$2" "$3" "$1" &&
    (cd "$1" &&
      npm ci --legacy-peer-deps --ignore-scripts --no-audit --no-fund --no-update-notifier)
}
