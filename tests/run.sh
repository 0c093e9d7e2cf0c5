#!/usr/bin/env bash
# Runs every test and ends with a line `N passed, N failed`. Usage: tests/run.sh [unit|replay|cli|tree|compilers|sanitizer]...
# Default: all of them. BUILD (default build) is the folder of the built tools; PG_FAST=1 leaves out compilers and sanitizer.
set -u
cd "$(dirname "$0")/.." || exit 1
export PG_BUILD=${PG_BUILD:-${BUILD:-build}}
passed=0 failed=0
log=$(mktemp -d) || exit 1
trap 'rm -rf "$log"' EXIT

tally() { # tally NAME PASSED FAILED
    passed=$((passed + $2)) failed=$((failed + $3))
    printf '%-44s %4d passed, %d failed\n' "$1" "$2" "$3"
}

one() { # one NAME COMMAND...: a check that passes or fails as a whole
    local name=$1
    shift
    if "$@" >"$log/one" 2>&1; then tally "$name" 1 0; else
        sed 's/^/    /' "$log/one" | tail -n 40
        tally "$name" 0 1
    fi
}

cmocka() { # cmocka BUILD PROGRAM
    PG_BUILD=$1 timeout 900 "$2" >"$log/unit" 2>&1
    local rc=$? ok bad
    ok=$(grep -c '^\[       OK \]' "$log/unit")
    bad=$(grep -c '^\[  FAILED  \] [^ ]*$' "$log/unit")
    if [ "$rc" -ne 0 ]; then
        [ "$bad" -gt 0 ] || bad=1
        tail -n 60 "$log/unit" | sed 's/^/    /'
    fi
    tally "unit ${2#"$1"/}" "$ok" "$bad"
}

unit() {
    local t
    for t in "$PG_BUILD"/tests/*/test_*; do
        [ -x "$t" ] && [ -f "$t" ] && case $t in *.*) ;; *) cmocka "$PG_BUILD" "$t" ;; esac
    done
}

# Every fuzz target on its seeds and on what was found once.
replay() {
    local t name
    for t in "$PG_BUILD"/tests/fuzz/fuzz_*; do
        case $t in *.*) continue ;; esac
        name=${t##*/fuzz_}
        local inputs=("tests/fuzz/seeds/$name")
        [ ! -d "tests/fuzz/found/$name" ] || inputs+=("tests/fuzz/found/$name")
        one "inputs of fuzz target $name" timeout 120 "$t" "${inputs[@]}"
    done
}

cli() {
    local t ok bad
    for t in tests/cli/*.bats; do
        timeout 1200 bats --tap "$t" >"$log/bats" 2>&1
        local rc=$?
        ok=$(grep -c '^ok ' "$log/bats")
        bad=$(grep -c '^not ok ' "$log/bats")
        [ "$rc" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
        [ "$bad" -eq 0 ] || grep -v '^ok ' "$log/bats" | head -n 80 | sed 's/^/    /'
        grep -E '^ok .*# skip' "$log/bats" | sed 's/^/    /'
        tally "$t" "$ok" "$bad"
    done
}

tree() {
    one 'layers: a room uses only the rooms below' tests/tree/layers.sh
    one 'symbols: every global begins with pg_' tests/tree/symbols.sh "$PG_BUILD/libpg.a"
    one 'linkage: libraries, stack, paths' tests/tree/linkage.sh "$PG_BUILD"
    one 'packaging: dependencies, version' tests/tree/packaging.sh
    one 'man pages: lint, options, one per tool' tests/tree/man.sh
    one 'shell scripts: shellcheck' tests/tree/shell.sh
    one 'tests: assertions that assert' tests/tree/bats.sh
    one 'source: sizes, left-overs' tests/tree/source.sh
    one 'tools: hardened' tests/tree/hardening.sh "$PG_BUILD"
}

compilers() {
    local cc
    for cc in gcc clang; do
        local cxx=g++
        [ $cc = gcc ] || cxx=clang++
        one "build with $cc -Werror" make -s -j"$(nproc)" BUILD="build-$cc" CC=$cc CXX=$cxx WERROR=-Werror everything
    done
}

sanitizer() {
    local t b=build-san
    if ! make -s -j"$(nproc)" BUILD=$b SANITIZER=address,undefined CFLAGS='-O1 -g' CXXFLAGS='-O1 -g' everything >"$log/one" 2>&1; then
        tail -n 40 "$log/one"
        tally 'build with sanitizers' 0 1
        return
    fi
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    for t in "$b"/tests/*/test_*; do
        [ -x "$t" ] && [ -f "$t" ] && case $t in *.*) ;; *) cmocka $b "$t" ;; esac
    done
    # A part of a tool that ends by exit leaves its memory behind: leaks are the fuzzers' business.
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 PG_BUILD=$b replay
}

if [ $# -eq 0 ]; then
    set -- tree unit replay cli
    [ -n "${PG_FAST:-}" ] || set -- "$@" compilers sanitizer
fi
for part in "$@"; do "$part"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
