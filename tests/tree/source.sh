#!/usr/bin/env bash
# No file above 700 lines, no left-over notes, no absolute path of a machine.
set -u
bad=0
while read -r n file; do
    if [ "$file" != total ] && [ "$n" -gt 700 ]; then
        echo "$file: $n lines; split it by responsibility"
        bad=1
    fi
done < <(find common tools tests data pipelines packaging \( -name '*.[ch]' -o -name '*.cc' -o -name '*.sh' \) -exec wc -l {} +)
if grep -nE '\b(TODO|FIXME|HACK)\b' -r common tools pipelines packaging Makefile; then bad=1; fi
exit $bad
