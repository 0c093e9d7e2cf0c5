#!/usr/bin/env bats
# The data recipes: emoji out of the font, pictures on backgrounds, stamps.
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    FONT=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
    NAMES=/usr/share/unicode/cldr/common/annotations
}

need_font() {
    [ -f "$FONT" ] || skip 'no fonts-noto-color-emoji'
    [ -d "$NAMES" ] || skip 'no unicode-cldr-core'
}

counts() { # counts LIST: lines, different names, concepts, validation lines
    echo "$(wc -l <"$1") $(grep -o '"suffix":"[^"]*"' "$1" | sort -u | wc -l) $(grep -o '"concept":"[^"]*"' "$1" | sort -u | wc -l)" \
        "$(grep -c '"split":"val"' "$1")"
}

version_is() { # version_is PACKAGE VERSION: counts hold for one version
    [ "$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null | cut -d- -f1)" = "$2" ] || skip "not version $2 of $1"
}

@test "emoji: the lexicon: 921 things of 909 concepts, each with a name of its own in four languages" {
    need_font
    version_is fonts-noto-color-emoji 2.042
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en es de fr
    for l in en es de fr; do [ "$(counts "$T/e/$l.jsonl")" = '921 921 909 88' ]; done
    [ "$(find "$T/e/images" -name '*.png' | wc -l)" -eq 921 ]
    grep -q '"image":"images/u1f40b.png","suffix":"whale"' "$T/e/en.jsonl"
    grep -q '"image":"images/u1f40b.png","suffix":"ballena"' "$T/e/es.jsonl"
    "$B/pg-fetch" "$T/e/en.jsonl" | "$B/pg-resize" -s 8 >"$T/e.pgs"
}

@test "emoji: any other language by option" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" pt zh
    grep -q '"image":"images/u1f40b.png","suffix":"baleia","concept":"whale"' "$T/e/pt.jsonl"
    [ "$(wc -l <"$T/e/zh.jsonl")" -gt 900 ]
}

@test "emoji --all: 3635 pictures of version 2.042 of the font, 3621 different ones, sequences among them" {
    need_font
    version_is fonts-noto-color-emoji 2.042
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/e" en
    [ "$(counts "$T/e/en.jsonl")" = '3635 3635 1652 284' ]
    [ "$(md5sum "$T"/e/images/*.png | cut -c1-32 | sort -u | wc -l)" -eq 3621 ]
    grep -q '"image":"images/u1f1e9-1f1ea.png","suffix":"flag: Germany","concept":"flag: Germany"' "$T/e/en.jsonl"
    grep -q '"suffix":"woman astronaut: dark skin tone","concept":"astronaut"' "$T/e/en.jsonl"
}

@test "emoji --all: every variant of a thing has its concept and is on one side of the split, in every language" {
    need_font
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/e" en de
    [ "$(grep -c '"concept":"firefighter"' "$T/e/en.jsonl")" -eq 18 ]
    [ "$(grep -c '"concept":"firefighter"' "$T/e/de.jsonl")" -eq 18 ]
    cat "$T"/e/??.jsonl | grep -o '"concept":.*' | sort -u >"$T/sides"
    [ -z "$(sed 's/","split.*//' "$T/sides" | uniq -d)" ]
    [ "$(grep -c '"split":"val"' "$T/sides")" -gt 100 ]
}

@test "emoji: pictures of a folder, named by code points; joiners do not count" {
    need_font
    mkdir "$T/p"
    png=$(ls tests/golden/image/*.png | head -n 1)
    cp "$png" "$T/p/1F40B.png"
    cp "$png" "$T/p/1F3F3-1F308.png" # rainbow flag, without the joiner and the variation selector
    cp "$png" "$T/p/readme.png"
    "$B/data/emoji" --all "$T/p" "$NAMES" "$T/e" en
    grep -o '"suffix":"[^"]*"' "$T/e/en.jsonl" | sort >"$T/got"
    printf '"suffix":"rainbow flag"\n"suffix":"whale"\n' | cmp - "$T/got"
    mkdir "$T/none"
    run "$B/data/emoji" "$T/none" "$NAMES" "$T/e" en
    [ "$status" -eq 1 ]
    [[ $output == *"cannot use '$T/none'"* ]]
}

@test "emoji: EmojiOne of ruby-gemojione 3.3.0: 1789 pictures with a name" {
    need_font
    dir=$(dpkg -L ruby-gemojione 2>/dev/null | grep -m1 '/assets/png$') || skip 'no ruby-gemojione'
    version_is ruby-gemojione 3.3.0
    "$B/data/emoji" --all "$dir" "$NAMES" "$T/e" en fr
    [ "$(counts "$T/e/en.jsonl")" = '1789 1789 1344 155' ]
    [ "$(counts "$T/e/fr.jsonl")" = '1789 1789 1344 155' ]
    # A thing drawn twice is on the same side in both sets.
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/n" en
    cat "$T/e/en.jsonl" "$T/n/en.jsonl" | grep -o '"concept":.*' | sort -u | sed 's/","split.*//' | uniq -d >"$T/both"
    [ ! -s "$T/both" ]
}

@test "sets: a folder for each set, with a README whose counts are those of the lists; pg-fetch reads them" {
    need_font
    data/sets.sh "$B" "$T/sets" en es
    [ "$(grep -c '^| e[ns].jsonl | 3635 ' "$T/sets/noto/README.md")" -eq 2 ] || version_is fonts-noto-color-emoji 2.042
    for set in "$T"/sets/*; do
        grep -q '^Source: .* [0-9]' "$set/README.md"
        grep -q '^Licence: ' "$set/README.md"
        [ "$(grep -c "^| en.jsonl | $(wc -l <"$set/en.jsonl") |" "$set/README.md")" -eq 1 ]
        "$B/pg-fetch" -n 20 "$set/en.jsonl" | "$B/pg-resize" --background white -s 8 >"$T/some.pgs"
    done
    if [ -d "$T/sets/stamps" ]; then
        version_is tuxpaint-stamps-default 2022.06.04
        [ "$(wc -l <"$T/sets/stamps/en.jsonl")" -eq 505 ]
        [ "$(wc -l <"$T/sets/stamps/es.jsonl")" -eq 498 ]
    fi
}

@test "emoji: a cut or damaged font is an error, never a crash" {
    need_font
    size=$(stat -c %s "$FONT")
    for n in 0 3 11 100 5000 300000 $((size / 2)) $((size - 8)); do # the last bytes may be padding
        head -c "$n" "$FONT" >"$T/cut.ttf"
        run "$B/data/emoji" --all "$T/cut.ttf" "$NAMES" "$T/cut" en
        [ "$status" -eq 1 ]
        [[ $output == *"cannot use '$T/cut.ttf'"* ]]
    done
    cp "$FONT" "$T/bad.ttf"
    chmod u+w "$T/bad.ttf"
    for at in 13 20 500 4000 40000 60000; do
        head -c 64 /dev/zero | tr '\0' '\377' | dd of="$T/bad.ttf" bs=1 seek="$at" conv=notrunc status=none
        run "$B/data/emoji" --all "$T/bad.ttf" "$NAMES" "$T/bad" en
        [ "$status" -le 1 ]
    done
}

@test "emoji: names that are missing or damaged are an error that names the file" {
    need_font
    run "$B/data/emoji" "$FONT" "$NAMES" "$T/e" xx
    [ "$status" -eq 1 ]
    [[ $output == *"$NAMES/xx.xml"* ]]
    mkdir "$T/names"
    head -c 5000 "$NAMES/en.xml" >"$T/names/en.xml"
    run "$B/data/emoji" "$FONT" "$T/names" "$T/e" en
    [ "$status" -eq 1 ]
    [[ $output == *"$T/names/en.xml"* ]]
}

@test "augment: the same seed gives the same bytes, another seed others" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en
    "$B/data/augment" -n 40 --seed 5 "$T/e/en.jsonl" >"$T/a"
    "$B/data/augment" -n 40 --seed 5 "$T/e/en.jsonl" >"$T/b"
    cmp "$T/a" "$T/b"
    "$B/data/augment" -n 40 --seed 6 "$T/e/en.jsonl" >"$T/c"
    ! cmp -s "$T/a" "$T/c"
}

@test "augment: things that are described and things that are only named never mix" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en
    for which in described named; do
        "$B/data/augment" -n 1000 --size 8 --text full --things $which -o "$T/$which" "$T/e/en.jsonl"
        grep -o '"image":"[^"]*' "$T/$which/examples.jsonl" | sed 's/.*-//' | sort -u >"$T/$which.things"
        [ "$(wc -l <"$T/$which.things")" -gt 100 ]
    done
    [ -z "$(comm -12 "$T/described.things" "$T/named.things")" ]
    [ "$(sort -u "$T/described.things" "$T/named.things" | wc -l)" -eq "$(wc -l <"$T/e/en.jsonl")" ]
    "$B/data/augment" -n 2000 --size 8 "$T/e/en.jsonl" | "$B/pg-render" -f jsonl |
        grep '"describe en"' | grep -o '"id":"[^"]*' | sed 's/.*-//' | sort -u >"$T/said"
    [ "$(wc -l <"$T/said")" -gt 50 ]
    [ -z "$(comm -12 "$T/said" "$T/named.things")" ]
}

@test "augment: variants of one concept are on one side" {
    need_font
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/e" en
    grep -E '"concept":"(firefighter|judge|vampire|elf|cook|pilot)"' "$T/e/en.jsonl" >"$T/e/some.jsonl"
    for which in described named; do
        "$B/data/augment" -n 108 --size 8 --text name --things $which -o "$T/$which" "$T/e/some.jsonl"
        grep -o '"suffix":"[^"]*' "$T/$which/examples.jsonl" | grep -oE 'firefighter|judge|vampire|elf|cook|pilot' | sort -u >"$T/$which.concepts"
    done
    [ "$(cat "$T/described.concepts" "$T/named.concepts" | sort | uniq -d | wc -l)" -eq 0 ]
    [ "$(cat "$T/described.concepts" "$T/named.concepts" | wc -l)" -eq 6 ]
}

@test "augment: in every language half of the things are described, in its own words" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en es de fr
    "$B/data/augment" -n 6000 --size 8 "$T"/e/{en,es,de,fr}.jsonl | "$B/pg-render" -f jsonl >"$T/all"
    for form in 'en:.* on an? [a-z]* background' 'es:.* sobre fondo [a-zó]*' 'de:.* auf [a-zßü]* Hintergrund' 'fr:.* sur fond [a-z]*'; do
        grep "\"describe ${form%%:*}\"" "$T/all" >"$T/said"
        [ "$(wc -l <"$T/said")" -gt 150 ]
        ! grep -vE "\"suffix\":\"${form#*:}\"" "$T/said" || false
        [ "$(grep -c "\"caption ${form%%:*}\"" "$T/all")" -gt 800 ]
        ! grep "\"caption ${form%%:*}\"" "$T/all" | grep -E "\"suffix\":\"${form#*:}\"" || false
        grep -o '"id":"[^"]*' "$T/said" | sed 's/.*-//' | sort -u >"$T/${form%%:*}.things"
    done
    ! cmp -s "$T/en.things" "$T/es.things" # another half in each language
}

@test "augment: the background is the colour that the caption names, the picture is blended over it" {
    PY=$(tests/find-python numpy msgpack msgpack_numpy) || skip 'no python3-msgpack-numpy'
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en
    "$B/data/augment" -n 60 --size 32 --text full -o "$T/p" "$T/e/en.jsonl"
    "$B/pg-fetch" "$T/p/examples.jsonl" | "$B/pg-resize" -s 32 | "$PY" tests/cli/corners.py
}

@test "augment --ramp: from the first language on white to all of them on colours" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en es
    "$B/data/augment" -n 2000 --size 8 --ramp 2000 "$T/e/en.jsonl" "$T/e/es.jsonl" | "$B/pg-render" -f jsonl >"$T/all"
    es() { sed -n "$1" "$T/all" | grep -c '"[a-z]* es"'; }
    echo "Spanish: $(es 1,200p) of the first 200, $(es 1801,2000p) of the last"
    [ "$(es 1,200p)" -le 20 ]        # 4 are expected
    [ "$(es 1801,2000p)" -ge 50 ]    # 76
}

@test "augment: no list, a bad list, a bad picture, a bad number" {
    echo '{"image":"none.png","suffix":"a"}' >"$T/l.jsonl"
    run "$B/data/augment" -n 1 -o "$T/o" "$T/l.jsonl"
    [ "$status" -eq 1 ]
    [[ $output == *none.png* ]]
    echo '{"image":1}' >"$T/l.jsonl"
    run "$B/data/augment" -n 1 -o "$T/o" "$T/l.jsonl"
    [ "$status" -eq 1 ]
    run "$B/data/augment" -n 1 -o "$T/o" "$T/absent.jsonl"
    [ "$status" -eq 1 ]
    run "$B/data/augment" -n x "$T/l.jsonl"
    [ "$status" -ne 0 ]
    run "$B/data/augment"
    [ "$status" -eq 2 ]
}

@test "stamps: captions of at most 8 words, no symbols, no mirrored twins, quotes kept" {
    mkdir -p "$T/s/animals" "$T/s/symbols"
    for f in animals/frog animals/frog_mirror animals/long animals/none symbols/a; do : >"$T/s/$f.png"; done
    printf 'A "green" frog.\nes.utf8=Una rana.\n' >"$T/s/animals/frog.txt"
    printf 'A frog.\n' >"$T/s/animals/frog_mirror.txt"
    printf 'One two three four five six seven eight nine.\n' >"$T/s/animals/long.txt"
    printf 'The letter A.\n' >"$T/s/symbols/a.txt"
    run data/stamps.sh en "$T/s"
    [ "$status" -eq 0 ]
    [ "$output" = "{\"image\":\"$T/s/animals/frog.png\",\"suffix\":\"A \\\"green\\\" frog.\",\"concept\":\"\\\"green\\\" frog\"}" ]
    run data/stamps.sh es "$T/s"
    [ "$output" = "{\"image\":\"$T/s/animals/frog.png\",\"suffix\":\"Una rana.\",\"concept\":\"\\\"green\\\" frog\"}" ]
    run data/stamps.sh en "$T/nowhere"
    [ "$status" -eq 1 ]
}

@test "nano.sh run twice gives the same bits; started again it trains no further" {
    need_font
    command -v spm_train >/dev/null || skip 'no sentencepiece'
    for i in 1 2; do
        mkdir "$T/$i"
        ln -s "$(cd "$B" && pwd)"/{pg-*,data} "$T/$i/"
        NANO_OUT=$T/out$i data/nano.sh "$T/$i" 3 >"$T/log$i"
    done
    grep -q '^done: step 3' "$T/log1"
    cmp "$T/out1/model.npz" "$T/out2/model.npz"
    cmp "$T/out1/tokenizer.model" "$T/out2/tokenizer.model"
    NANO_OUT=$T/out1 data/nano.sh "$T/1" 3 >"$T/log3"
    [ ! -s "$T/log3" ]
    cmp "$T/out1/model.npz" "$T/out2/model.npz"
    "$B/pg-info" "$T/out1" | grep -q '^parameters  *1[0-9]\{6\}$'
    [ "$(stat -c %s "$T/out1/model.npz")" -le 8000000 ]
}
