#!/usr/bin/env bash
# Makes the data sets: OUT/noto, OUT/emojione and OUT/stamps, each a folder with a LANG.jsonl for pg-fetch and a README of source,
# licence and counts. Needs the packages fonts-noto-color-emoji, ruby-gemojione, tuxpaint-stamps-default and unicode-cldr-core; a set whose
# package is missing is left out and said so.
# Usage: sets.sh BUILD OUT [LANG...]     LANG: en es de fr
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/../pipelines/usage.sh"
operands 2 1000 "$@"
export LC_ALL=C
build=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- en es de fr
names=/usr/share/unicode/cldr/common/annotations
font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
here=$(cd "$(dirname "$0")" && pwd)
made=0

version() { dpkg-query -W -f '${Package} ${Version}' "$1" 2>/dev/null || echo "$1"; }
installed() { # installed SET PACKAGE FILE
    [ -e "$3" ] || { echo "sets.sh: no '$1': apt-get install $2" >&2; return 1; }
}
readme() { # readme SET TITLE SOURCE LICENCE: what lies there, counted from the lists themselves
    local list
    {
        printf '# %s\n\nSource: %s\n\nLicence: %s\n\n| list | pictures | concepts | train | val |\n|---|---|---|---|---|\n' "$2" "$3" "$4"
        for list in "$out/$1"/*.jsonl; do
            printf '| %s | %d | %d | %d | %d |\n' "${list##*/}" "$(wc -l <"$list")" \
                "$(grep -o '"concept": *"[^"]*"' "$list" | sort -u | wc -l)" "$(grep -c '"split": *"train"' "$list")" "$(grep -c '"split": *"val"' "$list")"
        done
        cat <<'end'

`split` is by a hash of the concept: variants of one thing are on one side. Pictures are transparent:
`pg-resize --background white`, or `data/augment`.
end
    } >"$out/$1/README.md"
    made=$((made + 1))
}

mkdir -p "$out"
installed names unicode-cldr-core "$names"
if installed noto fonts-noto-color-emoji "$font"; then
    "$build/data/emoji" --all "$font" "$names" "$out/noto" "$@"
    readme noto 'Noto Color Emoji' "$(version fonts-noto-color-emoji); names: $(version unicode-cldr-core)" \
        'font OFL-1.1, art Apache-2.0; names: Unicode licence'
fi
pictures=$(dpkg -L ruby-gemojione 2>/dev/null | grep -m1 '/assets/png$' || true)
if installed emojione ruby-gemojione "${pictures:-none}"; then
    "$build/data/emoji" --all "$pictures" "$names" "$out/emojione" "$@"
    readme emojione 'EmojiOne 2' "$(version ruby-gemojione); names: $(version unicode-cldr-core)" \
        'pictures CC-BY-SA-4.0 (Ranks.com Inc.); names: Unicode licence'
fi
if installed stamps tuxpaint-stamps-default /usr/share/tuxpaint/stamps; then
    mkdir -p "$out/stamps"
    for lang in "$@"; do "$here/stamps.sh" "$lang" | "$build/data/split" >"$out/stamps/$lang.jsonl"; done
    readme stamps 'Stamps of Tux Paint' "$(version tuxpaint-stamps-default); the lists point at the package's files" 'GPL-2'
fi
[ "$made" -gt 0 ]
