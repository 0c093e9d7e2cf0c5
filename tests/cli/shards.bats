#!/usr/bin/env bats
# pg-fetch over many shards: lists in braces, parts, shuffling, passes, going on behind a cut; each record exactly once.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0

# A picture of its own for every record: the smallest PNG with bytes behind its end would be refused, so the text tells them apart.
setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export D=$BATS_FILE_TMPDIR/d
    mkdir -p "$D/in" "$D/folder/b"
    local png=tests/golden/image/png-rgb8-1x1.png s=0 n i
    for n in 7 5 9 3; do
        rm -f "$D"/in/*
        for ((i = 0; i < n; i++)); do
            cp "$png" "$D/in/s$s-$i.png"
            echo "Text $s $i." >"$D/in/s$s-$i.txt"
        done
        tar -C "$D/in" --sort=name -cf "$D/s-0$s.tar" .
        s=$((s + 1))
    done
    for i in 1 2 3 4 5; do cp "$png" "$D/folder/$i.png"; done
    cp "$png" "$D/folder/b/6.png"
    for i in 1 2 3 4 5 6 7 8 9; do echo "{\"image\":\"folder/1.png\",\"id\":\"j$i\"}"; done >"$D/a.jsonl"
    sed 's/"j/"k/' "$D/a.jsonl" >"$D/b.jsonl"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
}

# ids ARGUMENTS...: of the stream, one a line, with its epoch where it has one; the status in $rc, messages in $T/err
ids() {
    rc=0
    "$B/pg-fetch" "$@" >"$T/pgs" 2>"$T/err" || rc=$?
    "$B/pg-render" -f jsonl <"$T/pgs" >"$T/lines" 2>"$T/render" || [ $? -eq 4 ] || { cat "$T/err" "$T/render"; false; }
    sed 's/^{"id":"\([^"]*\)".*"epoch":\([0-9]*\).*/\1 \2/; s/^{"id":"\([^"]*\)".*/\1/' "$T/lines"
}

all_ids() {
    local s=0 n i
    for n in 7 5 9 3; do
        for ((i = 0; i < n; i++)); do echo "s$s-$i"; done
        s=$((s + 1))
    done
}

@test "braces: quoted lists of local shards are expanded, in order; a file of that very name is that file" {
    ids "$D/s-{00..03}.tar" >"$T/got"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    all_ids | cmp - "$T/got"
    ids "$D/{a,b}.jsonl" "$D/{folder}" 2>/dev/null >"$T/got" || true
    [ "$rc" -eq 1 ] # braces without a list are a name
    ids "$D/{b,a}.jsonl" >"$T/got"
    [ "$(head -n 1 "$T/got") $(wc -l <"$T/got")" = 'k1 18' ]
    cp tests/golden/image/png-rgb8-1x1.png "$T/x{1,2}.png"
    ids "$T/x{1,2}.png" >"$T/got"
    [ "$(cat "$T/got")" = "$T/x{1,2}.png" ]
    run "$B/pg-fetch" "$D/s-{0..9999999}.tar"
    [ "$status" -eq 2 ]
    [[ $output == *'more than 1000000 names'* ]]
}

@test "a shard that is missing or cut is a record with an error that names it, and the rest goes on" {
    cp "$D"/s-0[0-3].tar "$T/"
    rm "$T/s-01.tar"
    tar -tRf "$T/s-02.tar" >"$T/blocks"
    head -c $((($(sed -n 's/^block \([0-9]*\): .*s2-4.png/\1/p' "$T/blocks") + 1) * 512 + 10)) "$D/s-02.tar" >"$T/s-02.tar"
    ids "$T/s-{00..03}.tar" >"$T/got"
    [ "$rc" -eq 4 ]
    { all_ids | grep s0; echo "$T/s-01.tar"; printf 's2-%d\n' 0 1 2 3; echo "$T/s-02.tar"; all_ids | grep s3; } >"$T/want"
    cmp "$T/want" "$T/got" || { cat "$T/got"; false; }
    grep -q "cannot open '$T/s-01.tar': No such file" "$T/err"
    grep -q "cannot read '$T/s-02.tar' at member 's2-4.png'" "$T/err" || { cat "$T/err"; false; }
    # In parts: the error is one part's record, the others warn.
    for i in 0 1 2 3 4; do
        ids --shard "$i/5" "$T/s-{00..03}.tar" >>"$T/parts"
        grep -q "s-02.tar" "$T/err"
    done
    sort "$T/want" | cmp - <(sort "$T/parts")
    ids "$T/{none,s-03}.jsonl" "$T/s-03.tar" >"$T/got"
    [ "$rc" -eq 4 ]
    [ "$(wc -l <"$T/got")" -eq 5 ]
}

@test "--shard: whole sources where there are enough, else records; together each exactly once" {
    for n in 1 2 3 4; do
        for ((i = 0; i < n; i++)); do
            ids --shard "$i/$n" "$D/s-{00..03}.tar" >"$T/part"
            [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
            all_ids | awk -v i="$i" -v n="$n" '{if (substr($0, 2, 1) % n == i) print}' | cmp - "$T/part"
        done
    done
    for source in "$D/s-02.tar" "$D/a.jsonl" "$D/folder"; do
        ids "$source" >"$T/all"
        for n in 2 3 7 20; do
            for ((i = 0; i < n; i++)); do
                ids --shard "$i/$n" "$source" >"$T/part"
                awk -v i="$i" -v n="$n" '(NR - 1) % n == i' "$T/all" | cmp - "$T/part"
            done
        done
    done
    # record r of source k is in shard (r + k) mod N
    for i in 0 1 2; do ids --shard "$i/3" "$D/{a,b}.jsonl"; done >"$T/parts"
    [ "$(head -n 6 "$T/parts" | tr '\n' ' ')" = 'j1 j4 j7 k3 k6 k9 ' ] || { cat "$T/parts"; false; }
    [ "$(sort -u "$T/parts" | wc -l) $(wc -l <"$T/parts")" = '18 18' ]
    ids --shard 1/2 -n 2 "$D/a.jsonl" >"$T/part"
    [ "$(tr '\n' ' ' <"$T/part")" = 'j2 j4 ' ]
    for bad in 2/2 x/2 1 1/ /2 0/0 -1/2 1/2/3; do
        run "$B/pg-fetch" --shard "$bad" "$D/a.jsonl"
        [ "$status" -eq 2 ]
    done
}

@test "--shuffle: each exactly once, the same for a seed, another for another; no record comes before it can" {
    all_ids | sort >"$T/sorted"
    for n in 1 2 5 100; do
        ids --shuffle "$n" "$D/s-{00..03}.tar" >"$T/one"
        [ "$rc" -eq 0 ]
        sort "$T/one" | cmp - "$T/sorted"
        ids --shuffle "$n" --seed 0 "$D/s-{00..03}.tar" | cmp - "$T/one"
        ids --shuffle "$n" --seed 1 "$D/s-{00..03}.tar" >"$T/two"
        sort "$T/two" | cmp - "$T/sorted"
        if cmp -s "$T/one" "$T/two"; then false; fi
    done
    # every record keeps its own text
    [ "$(sed -n 's/.*"id":"s\(.\)-\(.\)".*"suffix":"Text \(.\) \(.\).".*/\1\2 \3\4/p' "$T/lines" | awk '$1 == $2' | wc -l)" -eq 24 ]
    for seed in 1 2 3 4; do # the sources are in their order here: one file
        ids --shuffle 3 --seed "$seed" "$D/a.jsonl" | awk '{if (substr($0, 2) + 0 > NR + 2) exit 1}'
    done
    for i in 0 1 2; do ids --shard "$i/3" --shuffle 4 --seed 7 "$D/s-{00..03}.tar"; done | sort | cmp - "$T/sorted"
    for i in 0 1 2; do ids --shard "$i/3" --shuffle 4 --seed "$i" "$D/a.jsonl" "$D/b.jsonl"; done | sort -u >"$T/lines3"
    [ "$(wc -l <"$T/lines3")" -eq 18 ]
}

@test "--epochs: each pass gives each record once, in another order where shuffled; the key epoch says which" {
    ids --epochs 3 "$D/s-{00..03}.tar" >"$T/got"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    for e in 1 2 3; do all_ids | sed "s/$/ $e/"; done | cmp - "$T/got"
    ids --epochs 3 --shuffle 10 --seed 5 "$D/s-{00..03}.tar" >"$T/got"
    [ "$rc" -eq 0 ]
    for e in 1 2 3; do
        sed -n "s/ $e\$//p" "$T/got" >"$T/$e"
        all_ids | sort | cmp - <(sort "$T/$e")
    done
    [ "$(cut -d' ' -f2 "$T/got" | uniq | tr '\n' ' ')" = '1 2 3 ' ]
    if cmp -s "$T/1" "$T/2" || cmp -s "$T/2" "$T/3"; then false; fi
    ids --epochs 0 -n 60 "$D/s-{00..03}.tar" >"$T/got"
    [ "$(tail -n 1 "$T/got")" = 's1-4 3' ]
    [ "$(wc -l <"$T/got")" -eq 60 ]
    mkdir "$T/nothing"
    ids --epochs 0 "$T/nothing" >"$T/got"
    [ ! -s "$T/got" ]
    run "$B/pg-fetch" --epochs 2 - </dev/null
    [ "$status" -eq 2 ]
}

@test "--skip: what is left is the rest of the same stream, whatever the order" {
    for how in "" "--shuffle 4" "--shuffle 4 --epochs 3" "--epochs 2" "--shard 1/3 --shuffle 4 --epochs 2" "--shard 1/2"; do
        # shellcheck disable=SC2086
        ids $how "$D/s-{00..03}.tar" "$D/a.jsonl" "$D/folder" >"$T/all"
        [ "$rc" -eq 0 ]
        total=$(wc -l <"$T/all")
        cp "$T/lines" "$T/whole"
        for k in 0 1 3 10 23 24 25 39 40 60 $((total - 1)) "$total"; do
            [ "$k" -le "$total" ] || continue
            # shellcheck disable=SC2086
            ids --skip "$k" $how "$D/s-{00..03}.tar" "$D/a.jsonl" "$D/folder" >"$T/rest"
            [ "$rc" -eq 0 ]
            cmp "$T/lines" <(tail -n "+$((k + 1))" "$T/whole") || { echo "$how, $k"; false; }
        done
    done
    ids --skip 3 -n 2 "$D/a.jsonl" >"$T/rest"
    [ "$(tr '\n' ' ' <"$T/rest")" = 'j4 j5 ' ]
    # an id that is left out still counts as having been there
    ids --skip 1 "$D/folder/1.png" "$D/folder/1.png" >"$T/rest"
    [ "$rc" -eq 4 ]
    ids --skip 99 "$D/a.jsonl" >"$T/rest"
    grep -q 'warning: --skip leaves out 90 more records than there are' "$T/err"
}

@test "--skip goes on exactly behind what a killed pipeline has written" {
    how=(--shuffle 5 --epochs 40 --seed 9 "$D/s-{00..03}.tar")
    "$B/pg-fetch" "${how[@]}" | "$B/pg-render" -f jsonl >"$T/whole"
    for ((try = 0; try < 5; try++)); do
        "$B/pg-fetch" "${how[@]}" 2>/dev/null | { "$B/pg-resize" -s 32 -j 1 >"$T/cut.pgs" & echo $! >"$T/pid"; wait; } &
        job=$!
        until [ -s "$T/pid" ]; do sleep 0.01; done
        sleep "0.0$((RANDOM % 9 + 1))"
        kill -9 "$(cat "$T/pid")" 2>/dev/null || true
        wait "$job" || true
        rm "$T/pid"
        "$B/pg-render" -f jsonl <"$T/cut.pgs" >"$T/first" 2>/dev/null || true
        n=$(wc -l <"$T/first")
        "$B/pg-fetch" --skip "$n" "${how[@]}" | "$B/pg-render" -f jsonl >"$T/rest"
        { sed 's/,"pixels".*"height":1/}/; s/}}$/}/' "$T/first" | cut -d, -f1 && cut -d, -f1 "$T/rest"; } | cmp - <(cut -d, -f1 "$T/whole")
    done
}

@test "streams in files are sources: records pass as they are, joined, shuffled, in parts; their header goes on" {
    "$B/pg-fetch" "$D/s-00.tar" | "$B/pg-resize" -s 16 --drop-image | "$B/pg-tokenize" -q -m data/nano >"$T/a.pgs"
    "$B/pg-fetch" "$D/s-01.tar" | "$B/pg-resize" -s 16 --drop-image | "$B/pg-tokenize" -q -m data/nano >"$T/b.pgs"
    ids "$T/{a,b}.pgs" >"$T/got"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    all_ids | grep 's[01]' | cmp - "$T/got"
    for x in a b; do "$B/pg-render" -f jsonl --with-tensors "$T/$x.pgs"; done | cmp - <("$B/pg-render" -f jsonl --with-tensors "$T/pgs")
    "$B/pg-info" "$T/pgs" >"$T/info"
    grep -q 'pg-resize' "$T/info"
    grep -q 'pg-fetch .*{a,b}.pgs' "$T/info"
    ids --shuffle 5 --epochs 2 "$T/a.pgs" "$D/s-01.tar" >"$T/got"
    [ "$(sort "$T/got" | uniq | wc -l)" -eq 24 ]
    ids --skip 8 "$T/a.pgs" "$T/b.pgs" >"$T/got"
    [ "$(head -n 1 "$T/got")" = s1-1 ]
    # A cut one: what came is there, then its error; the next source goes on.
    head -c 20000 "$T/a.pgs" >"$T/cut.pgs"
    ids "$T/cut.pgs" "$T/b.pgs" >"$T/got"
    [ "$rc" -eq 4 ]
    grep -q "$T/cut.pgs.*cut" "$T/err" || { cat "$T/err"; false; }
    [ "$(grep -c '^s1-' "$T/got")" -eq 5 ]
    grep -qx "$T/cut.pgs" "$T/got"
    cp tests/cli/shards.bats "$T/no.pgs"
    run "$B/pg-fetch" "$T/no.pgs"
    [ "$status" -eq 3 ]
    # --max-record holds for them too: what is larger, and all behind it, is an error.
    "$B/pg-fetch" "$D/s-00.tar" | "$B/pg-resize" -s 100 >"$T/large.pgs"
    ids --max-record 64K "{$T/large.pgs,$T/b.pgs}" >"$T/got"
    [ "$rc" -eq 4 ]
    grep -q "large.pgs', record 1: .*65536" "$T/err" || { cat "$T/err"; false; }
    [ "$(wc -l <"$T/got")" -eq 6 ]
}

@test "records of streams without an id get one that is text" {
    # The smallest stream: {"pg-stream": [1, 0], "kind": "examples"}, {"suffix": "a"}, {"pg-end": 1}
    printf '\x82\xa9pg-stream\x92\x01\x00\xa4kind\xa8examples\x81\xa6suffix\xa1a\x81\xa6pg-end\x01' >"$T/plain.pgs"
    cp "$T/plain.pgs" "$T/caf"$'\xe9.pgs'
    "$B/pg-fetch" "$T/plain.pgs" | "$B/pg-render" -f jsonl >"$T/lines"
    [ "$(cat "$T/lines")" = "{\"suffix\":\"a\",\"id\":\"$T/plain.pgs:1\"}" ] || { cat "$T/lines"; false; }
    "$B/pg-fetch" "$T/caf"$'\xe9.pgs' | "$B/pg-render" -f jsonl >"$T/lines"
    grep -qF 'caf\\xe9.pgs:1"' "$T/lines" || { cat "$T/lines"; false; }
}

@test "--list: the sources, one a line; those of a part" {
    [ "$("$B/pg-fetch" --list 'https://x/{a,b}-{01..02}.tar' | tr '\n' ' ')" = 'https://x/a-01.tar https://x/a-02.tar https://x/b-01.tar https://x/b-02.tar ' ]
    [ "$("$B/pg-fetch" --list --shard 1/3 "$D/s-{00..03}.tar")" = "$D/s-01.tar" ]
    run "$B/pg-fetch" --list --shard 1/5 "$D/s-{00..03}.tar"
    [ "$status" -eq 2 ]
}

@test "memory does not grow with the number of records, through fetch, resize and tokenize" {
    command -v /usr/bin/time >/dev/null || skip 'no time(1)'
    export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1 # else freed memory counts
    cp tests/golden/image/png-rgb8-1x1.png "$T/p.png"
    # many RECORDS: what the three take at their peaks, KiB
    many() {
        awk -v n="$1" 'BEGIN {for (i = 0; i < n; i++) printf "{\"image\":\"p.png\",\"id\":\"r%d\",\"suffix\":\"thing %d\"}\n", i, i}' >"$T/l.jsonl"
        /usr/bin/time -f %M -o "$T/m1" "$B/pg-fetch" "$T/l.jsonl" | /usr/bin/time -f %M -o "$T/m2" "$B/pg-resize" -j 1 -s 8 --drop-image |
            /usr/bin/time -f %M -o "$T/m3" "$B/pg-tokenize" -q -m data/nano >"$T/pgs"
        [ "$("$B/pg-info" "$T/pgs" | grep -c "$1")" -ge 1 ]
        cat "$T/m1" "$T/m2" "$T/m3"
    }
    few=$(many 2000) all=$(many 22000)
    echo "$few" "$all"
    # 20,000 records more, of 1 kB each; 8 bytes and as many free ones a record are for comparing ids
    paste <(echo "$few") <(echo "$all") | awk '{if ($2 > $1 + 3000) bad = 1} END {exit bad || NR != 3}'
    # names of a folder, 30 bytes each
    (mkdir "$T/f" && cd "$T/f" && seq -f '%08.0f.png' 20000 | xargs touch)
    few=$(/usr/bin/time -f %M "$B/pg-fetch" -q -n 1 "$T/p.png" 2>&1 >/dev/null | tail -n 1) all=$(/usr/bin/time -f %M "$B/pg-fetch" -q -n 1 "$T/f" 2>&1 >/dev/null | tail -n 1)
    [ "$all" -lt $((few + 3000)) ]
}
