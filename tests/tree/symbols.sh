#!/usr/bin/env bash
# Every global symbol that the library defines begins with pg_. Usage: symbols.sh LIBRARY
set -u
lib=${1:?usage: symbols.sh LIBRARY}
[ -f "$lib" ] || { echo "no library '$lib'"; exit 1; }
names=$(nm -g --defined-only "$lib" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TDBRC]/ {print $3}' | grep -vE '^(pg_|_ZT|DW\.ref)' | sort -u)
[ -z "$names" ] && exit 0
echo "symbols without the prefix pg_:"
echo "$names"
exit 1
