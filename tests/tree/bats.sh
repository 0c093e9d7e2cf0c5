#!/usr/bin/env bash
# Assertions of the command-line tests that would assert nothing: bash's -e, by which bats fails a test, passes over a command behind `!` and
# over all but the last command of an && list. Behind the last line of a test the status alone counts, so there both are good.
set -u
bad=0
while IFS= read -r line; do
    echo "$line"
    bad=1
done < <(awk '
    function toothless(s) { return s ~ /(^ *|(do|then|else) )! / || s ~ /(^ *|(do|then|else) )\[\[? [^&]* \]\]? && / }
    FNR == 1 { held = "" }
    held != "" && $0 !~ /^ *}/ { print held }
    { held = toothless($0) && $0 !~ / \|\| / && $0 !~ / && (break|continue|return|exit)/ ? FILENAME ":" FNR ": write " ($0 ~ /^ *!/ ? "`! ... || false`" : "a line for each condition") ": " $0 : "" }
' tests/cli/*.bats)
exit $bad
