#!/usr/bin/env bash
# Lists the stamps of Debian's tuxpaint-stamps-default (GPL-2) that have a short caption, as JSON lines for pg-fetch or data/augment.
# The pictures stay where the package put them. Left out: symbols (letters, digits, chess men), mirrored twins, more than 8 words.
# A line's `concept` is the English caption without article and full stop, the same in every language.
# Usage: stamps.sh [LANG [FOLDER]] >stamps.jsonl     LANG: en, or one of the package's (es, de, fr, pt_BR, ...)
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/../pipelines/usage.sh"
operands 0 2 "$@"
export LC_ALL=C
lang=${1:-en}
folder=${2:-/usr/share/tuxpaint/stamps}
[ -d "$folder" ] || { echo "stamps.sh: no folder '$folder': apt-get install tuxpaint-stamps-default" >&2; exit 1; }
find -L "$folder" -name '*.png' ! -name '*_mirror.png' ! -path '*/symbols/*' | sort | while IFS= read -r image; do
    text=${image%.png}.txt
    [ -f "$text" ] || continue
    awk -v lang="$lang" -v image="$image" '
        function quoted(s) { gsub(/[\\"]/, "\\\\&", s); return "\"" s "\"" }
        NR == 1 { english = $0 }
        lang == "en" && NR == 1 { caption = $0; exit }
        index($0, lang ".utf8=") == 1 { caption = substr($0, length(lang) + 7); exit }
        END {
            gsub(/\r/, "", caption)
            if (!split(caption, words, " ") || length(words) > 8) exit
            concept = tolower(english)
            gsub(/\r/, "", concept)
            sub(/^(an?|the|some) /, "", concept)
            sub(/[.!]$/, "", concept)
            print "{\"image\":" quoted(image) ",\"suffix\":" quoted(caption) ",\"concept\":" quoted(concept) "}"
        }' "$text"
done
