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

@test "emoji: animals, food, vehicles: each picture is a PNG of 136x128" {
    need_font
    "$B/data/emoji" "$FONT" "$NAMES" "$T/e" en es
    [ "$(wc -l <"$T/e/en.jsonl")" -eq "$(find "$T/e/images" -name '*.png' | wc -l)" ]
    [ "$(wc -l <"$T/e/en.jsonl")" -gt 250 ]
    grep -q '"image":"images/u1f40b.png","suffix":"whale"' "$T/e/en.jsonl"
    grep -q '"image":"images/u1f40b.png","suffix":"ballena"' "$T/e/es.jsonl"
    "$B/pg-fetch" "$T/e/en.jsonl" | "$B/pg-resize" -s 8 >"$T/e.pgs"
}

@test "emoji --all: 3635 pictures of version 2.042 of the font, 3621 different ones, sequences among them" {
    need_font
    [ "$(dpkg-query -W -f '${Version}' fonts-noto-color-emoji | cut -d- -f1)" = 2.042 ] || skip 'another version of the font'
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/e" en
    [ "$(wc -l <"$T/e/en.jsonl")" -eq 3635 ]
    [ "$(md5sum "$T"/e/images/*.png | cut -c1-32 | sort -u | wc -l)" -eq 3621 ]
    grep -q '"image":"images/u1f1e9-1f1ea.png","suffix":"flag: Germany","concept":"flag: Germany"' "$T/e/en.jsonl"
    grep -q '"suffix":"woman astronaut: dark skin tone","concept":"astronaut"' "$T/e/en.jsonl"
}

@test "emoji --all: every variant of a thing has its concept, in every language" {
    need_font
    "$B/data/emoji" --all "$FONT" "$NAMES" "$T/e" en de
    [ "$(grep -c '"concept":"firefighter"' "$T/e/en.jsonl")" -eq 18 ]
    [ "$(grep -c '"concept":"firefighter"' "$T/e/de.jsonl")" -eq 18 ]
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
        "$B/data/augment" -n 900 --size 8 --text full --things $which -o "$T/$which" "$T/e/en.jsonl"
        grep -o '"image":"[^"]*' "$T/$which/examples.jsonl" | sed 's/.*-//' | sort -u >"$T/$which.things"
        [ "$(wc -l <"$T/$which.things")" -gt 100 ]
    done
    [ -z "$(comm -12 "$T/described.things" "$T/named.things")" ]
    [ "$(sort -u "$T/described.things" "$T/named.things" | wc -l)" -eq "$(wc -l <"$T/e/en.jsonl")" ]
    "$B/data/augment" -n 900 --size 8 "$T/e/en.jsonl" | "$B/pg-render" -f jsonl |
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
    [ "$output" = "{\"image\":\"$T/s/animals/frog.png\",\"suffix\":\"A \\\"green\\\" frog.\"}" ]
    run data/stamps.sh es "$T/s"
    [ "$output" = "{\"image\":\"$T/s/animals/frog.png\",\"suffix\":\"Una rana.\"}" ]
    run data/stamps.sh en "$T/nowhere"
    [ "$status" -eq 1 ]
}
