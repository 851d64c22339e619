#!/usr/bin/env bash
# Compiles throttl.h alone as each standard of C and C++ that it promises, without a warning, and
# compares what the library exports with its map.
#   bash tests/capi/throttl_header_test.sh LIBRARY
set -euo pipefail
library=$1
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/uses.c" <<'END'
#include <throttl.h>
throttl_decision decision = THROTTL_DECISION_INIT;
throttl_request request = THROTTL_REQUEST_INIT;
throttl_text text = THROTTL_LITERAL("text");
END
for standard in c99 c11 c17; do
  cc -std=$standard -pedantic -Wall -Wextra -Werror -I"$root/include" -fsyntax-only "$work/uses.c"
done
for standard in c++17 c++20; do
  c++ -std=$standard -pedantic -Wall -Wextra -Werror -I"$root/include" -fsyntax-only -x c++ \
    "$work/uses.c"
done

nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort \
  >"$work/exported"
sed -n 's/^ *\(throttl_[a-z_]*\);$/\1/p' "$root/src/capi/libthrottl.map" | sort >"$work/listed"
diff "$work/listed" "$work/exported"
# The map lists what the header declares.
cc -E -I"$root/include" "$work/uses.c" | tr -d '\n' | tr ';' '\n' |
  grep -o 'visibility("default").*' | grep -o 'throttl_[a-z_]*(' | tr -d '(' | sort \
  >"$work/declared"
diff "$work/declared" "$work/listed"
echo "$(wc -l <"$work/listed") functions"
