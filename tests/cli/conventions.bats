#!/usr/bin/env bats
# What every tool does alike: help, version, bad options, full and closed outputs, the terminal guard.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=${PG_BUILD:-build}
    tools=$(for t in tools/pg-*.c; do basename "$t" .c; done)
}

@test "--help and -h print usage on stdout and exit 0" {
    for t in $tools; do
        for o in --help -h; do
            run --separate-stderr "$B/$t" $o
            [ "$status" -eq 0 ] || { echo "$t $o: $status"; false; }
            [[ $output == *"$t"* ]] || { echo "$t $o does not name itself"; false; }
            [ -z "$stderr" ]
        done
    done
}

@test "--version prints name and version" {
    for t in $tools; do
        run "$B/$t" --version
        [ "$status" -eq 0 ]
        [[ $output =~ ^$t\ [0-9]+\.[0-9]+\.[0-9]+ ]] || { echo "$t: $output"; false; }
    done
}

@test "an unknown option exits 2 and points to --help" {
    for t in $tools; do
        run "$B/$t" --no-such-option </dev/null
        [ "$status" -eq 2 ] || { echo "$t: $status"; false; }
        [[ $output == *"--help"* ]] || { echo "$t: $output"; false; }
    done
}

@test "messages name the option that is meant" {
    says() { run "$B/$1" "${@:3}" </dev/null; [ "$status" -eq 2 ] && [[ $output == "$1: $2"* ]] || { echo "${*:3}: $status $output"; false; }; }
    says pg-convert "option '--dtype' needs a value" a b --dtype
    says pg-convert "unknown option '--dtipe': did you mean '--dtype'?" a b --dtipe f16
    says pg-convert "unknown option '--shards-sise': did you mean '--shard-size'?" a b --shards-sise=5
    says pg-convert $'unknown option \'--shardsizes5\'\n' a b --shardsizes5 # three letters
    says pg-render $'unknown option \'--fromat-of-it\'\n' --fromat-of-it
    says pg-resize "unknown option '-z'" -qz
    says pg-resize "unknown option '-z'" --size=5 -zq
    says pg-resize "option '--no-orient' takes no value" --no-orient=1
    says pg-resize "option '--quiet' takes no value" --quiet=yes
    says pg-resize "option '--max' may be several" --max 5
    says pg-resize "option '-s' needs a value" -q -s
    says pg-resize "unknown option '--'" --=5
}

@test "- is standard input where a file is wanted, and a file of a long name is itself" {
    "$B/pg-fetch" tests/golden/image/png-rgb8.png >"$BATS_TEST_TMPDIR/one.pgs"
    for f in jsonl text html; do cmp <("$B/pg-render" -f $f - <"$BATS_TEST_TMPDIR/one.pgs") <("$B/pg-render" -f $f <"$BATS_TEST_TMPDIR/one.pgs"); done
    echo '{"id": "a", "caption": "a cat", "references": ["a dog"]}' >"$BATS_TEST_TMPDIR/a.jsonl"
    cmp <("$B/pg-score" -q -f json - <"$BATS_TEST_TMPDIR/a.jsonl") <("$B/pg-score" -q -f json "$BATS_TEST_TMPDIR/a.jsonl")
    cp "$BATS_TEST_TMPDIR/one.pgs" "$BATS_TEST_TMPDIR/standard input"
    B=$(realpath "$B")
    cd "$BATS_TEST_TMPDIR"
    "$B/pg-render" -f html 'standard input' </dev/null | grep -q png-rgb8
}

@test "--help to a full disk fails with 1" {
    for t in $tools; do
        run bash -c "'$B/$t' --help >/dev/full"
        [ "$status" -eq 1 ] || { echo "$t: $status"; false; }
    done
}

@test "empty stdin is a cut stream: status 3" {
    for t in pg-resize pg-render; do
        run bash -c "'$B/$t' </dev/null | cat >/dev/null; exit \${PIPESTATUS[0]}"
        [ "$status" -eq 3 ] || { echo "$t: $status $output"; false; }
        [[ $output == *"'standard input'"* ]]
    done
}

@test "a binary stream is not written to a terminal" {
    script -qec true /dev/null >/dev/null 2>&1 || skip 'no script(1), or no terminals here'
    run script -qec "$B/pg-fetch tests/golden/image/png-rgb8.png" /dev/null
    [ "$status" -eq 2 ]
    [[ $output == *terminal* ]]
}

@test "a closed pipe ends a tool quietly" {
    run bash -c "'$B/pg-fetch' tests/golden/image 2>&1 >&3 3>&- | cat" 3> >(head -c 10 >/dev/null)
    [[ $output != *rror* ]]
}

@test "a filter that waits for input ends when its reader is gone" {
    # The writer stays open for a minute and writes nothing more than the header and one record: only the closed pipe can end pg-resize.
    mkfifo "$BATS_TEST_TMPDIR/in"
    "$B/pg-fetch" tests/golden/image/png-rgb8.png >"$BATS_TEST_TMPDIR/one.pgs"
    (head -c -20 "$BATS_TEST_TMPDIR/one.pgs"; exec sleep 60) >"$BATS_TEST_TMPDIR/in" 3>&- &
    writer=$!
    run timeout 20 bash -c "'$B/pg-resize' <'$BATS_TEST_TMPDIR/in' | head -c 1 >/dev/null; echo \${PIPESTATUS[0]}"
    kill "$writer" || true # it is gone where the machine was slow
    [ "$output" = 141 ] || { echo "$output"; false; } # SIGPIPE, without a word
}

@test "a full disk fails a filter with 1" {
    "$B/pg-fetch" tests/golden/image/png-rgb8.png >"$BATS_TEST_TMPDIR/one.pgs"
    run bash -c "'$B/pg-resize' <'$BATS_TEST_TMPDIR/one.pgs' >/dev/full"
    [ "$status" -eq 1 ]
}

@test "a closed stdout is diagnosed" {
    run bash -c "'$B/pg-fetch' tests/golden/image/png-rgb8.png >&-"
    [ "$status" -ne 0 ]
}
