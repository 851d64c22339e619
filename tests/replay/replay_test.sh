#!/usr/bin/env bash
# Replays the requests of examples/data with six quotas, and compares the outcome of every client
# with what the oracle computes from the file alone.
#   bash tests/replay/replay_test.sh REPLAY_PROGRAM
set -euo pipefail
replay=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requests=$here/../../examples/data/requests.csv
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
for period in day month; do
  for quota in 10 100 1000; do
    "$replay" --db "$directory/$period-$quota.db" --quota "$quota" --period "$period" \
      --json "$directory/outcome.json" "$requests" >"$directory/output"
    /usr/bin/python3 "$here/replay_oracle.py" --quota "$quota" --period "$period" \
      --compare "$directory/outcome.json" "$requests"
  done
done
