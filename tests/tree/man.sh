#!/usr/bin/env bash
# Man pages: each tool has one, mandoc finds nothing to warn of, and every long option that --help prints is described.
set -u
bad=0
for page in man/*.[1-8]; do
    mandoc -Tlint -Wwarning "$page" || bad=1
done
for t in tools/pg-*.c; do
    n=$(basename "$t" .c)
    page=man/$n.1
    if [ ! -f "$page" ]; then
        echo "no $page"
        bad=1
        continue
    fi
    for section in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
        grep -q "^\.Sh $section" "$page" || { echo "$page: no section $section"; bad=1; }
    done
    text=$(mandoc -Tutf8 -Owidth=200 "$page" | col -b 2>/dev/null || mandoc -Tutf8 "$page")
    text=${text//[‐‑−]/-}
    for opt in $("${PG_BUILD:-build}/$n" --help | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u); do
        grep -qF -- "$opt" <<<"$text" || { echo "$page: $opt is in --help, not here"; bad=1; }
    done
done
exit $bad
