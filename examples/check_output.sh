#!/usr/bin/env bash
# Runs a program in an empty directory and compares what it prints with what is expected. Secrets
# and speeds, which differ every time, count as equal.
#   bash examples/check_output.sh EXPECTED PROGRAM [ARGUMENT...]
set -euo pipefail

expected=$(realpath "$1")
shift
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/work"
cd "$directory/work"
status=0
"$@" >"$directory/output" 2>&1 || status=$?
sed -E -i 's/_[0-9A-Za-z]{48}\b/_SECRET/g; s/^[0-9]+ requests a second$/N requests a second/' \
  "$directory/output"
diff -u "$expected" "$directory/output"
exit "$status"
