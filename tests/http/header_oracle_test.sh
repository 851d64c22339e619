#!/usr/bin/env bash
# Has an independent parser read the headers of many random decisions, and compare their values.
#   bash tests/http/header_oracle_test.sh python|node HEADER_SAMPLES ORACLES
# HEADER_SAMPLES is that program, ORACLES what install_oracles.sh made.
set -euo pipefail
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
kind=$1 header_samples=$2 oracles=$(realpath -m "$3")

if [[ ! -f $oracles/$kind/installed ]]; then
  echo "skipped: there is no $oracles/$kind; bash cmake/setup.sh tests installs it"
  exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
count=$((20000 * ${THROTTL_TEST_SCALE:-100} / 100 + 1))
seed=${HEADER_SEED:-$RANDOM$RANDOM}
echo "$count decisions, HEADER_SEED=$seed"
"$header_samples" "$count" "$seed" >"$directory/samples"
case $kind in
  python)
    "$oracles/python/venv/bin/python" -B "$source/structured_field_oracle.py" "$directory/samples"
    ;;
  node)
    TZ=UTC node "$source/ratelimit_parser_oracle.mjs" "$oracles/node" "$directory/samples"
    ;;
esac
