#!/usr/bin/env bash
# What each program is linked with: the libraries that linkage.txt lists and no others, no path of libraries, no executable stack, no
# relocations in code. Usage: linkage.sh BUILD [TABLE]     Ends with 1 where something is wrong.
set -u
export LC_ALL=C
build=${1:?usage: linkage.sh BUILD [TABLE]} table=${2:-tests/tree/linkage.txt}
bad=0
wrong() { echo "$1: $2"; bad=1; }

for t in tools/pg-*.c; do
    tool=$(basename "$t" .c) f=$build/$(basename "$t" .c)
    [ -f "$f" ] || { wrong "$tool" 'is not built'; continue; }
    allowed=$(awk -v t="$tool" '$1 == t { for (i = 2; i <= NF; i++) print $i }' "$table" | sort)
    [ -n "$allowed" ] || wrong "$tool" "is not in $table"
    dynamic=$(readelf -dW "$f")
    linked=$(sed -n 's/.*(NEEDED).*\[\(.*\)\.so[.0-9]*\]/\1/p' <<<"$dynamic" | grep -vxE 'libc|libm|ld-linux-.*')
    if nm "$f" | grep -q ' [Tt] bli_'; then linked+=$'\nblis'; fi
    linked=$(sort <<<"$linked")
    for l in $(comm -13 <(echo "$allowed") <(echo "$linked")); do wrong "$tool" "is linked with $l, which $table does not allow"; done
    for l in $(comm -23 <(echo "$allowed") <(echo "$linked")); do wrong "$tool" "$table allows $l, which is not used"; done
    if grep -qE '\((RPATH|RUNPATH)\)' <<<"$dynamic"; then wrong "$tool" 'has a path to look for libraries in'; fi
    if grep -q '(TEXTREL)' <<<"$dynamic"; then wrong "$tool" 'has relocations in its code'; fi
    stack=$(readelf -lW "$f" | awk '$1 == "GNU_STACK" { print $7 }')
    [ "$stack" = RW ] || wrong "$tool" "its stack is '${stack:-not said to be anything}', not RW"
done
exit $bad
