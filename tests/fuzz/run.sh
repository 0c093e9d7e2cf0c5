#!/usr/bin/env bash
# Runs fuzz targets one after another, each for SECONDS_EACH (60), and ends with a table. Usage: run.sh BUILD [TARGET]...
# What was found to reach new code is kept in BUILD/corpus/TARGET and is where the next run goes on; an input that ends a target goes to
# BUILD/findings/TARGET-..., with its report in BUILD/TARGET.log; then the exit status is 1. `processor` is the seconds of a core that a target
# got. One input may take TIMEOUT_EACH (10) seconds by the clock: give it more where other programs can hold the machine up.
set -u
build=${1:?usage: run.sh BUILD [TARGET]...}
shift
seconds=${SECONDS_EACH:-60} longest_run=${TIMEOUT_EACH:-10}
here=$(dirname "$0")
[ $# -gt 0 ] || mapfile -t targets < <(cd "$here" && printf '%s\n' fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')
[ $# -eq 0 ] || targets=("$@")
mkdir -p "$build/findings" || exit 2
export TIMEFORMAT='%U %S' ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
export OPENSSL_ia32cap=${OPENSSL_ia32cap:-} TMPDIR=${TMPDIR:-/tmp}

# The longest input that is worth trying: containers need room, the rest reaches everything with little.
longest() {
    case $1 in
    tar) echo 8192 ;;
    npz | safetensors | image | tokenizer | render) echo 4096 ;;
    *) echo 2048 ;;
    esac
}

table=() bad=0
for t in "${targets[@]}"; do
    corpus=$build/corpus/$t log=$build/$t.log found=("$here/found/$t" "$here/seeds/$t")
    mkdir -p "$corpus"
    [ -d "${found[0]}" ] || found=("${found[1]}")
    more=()
    # Parts of tools end by an exit that comes back to the target; what the libraries below had by then is not a leak.
    case $t in jsonl | coco | tar | score | render) more=(-detect_leaks=0) ;; esac
    [ ! -f "$here/$t.dict" ] || more+=("-dict=$here/$t.dict")
    { time "$build/tests/fuzz/fuzz_$t" -max_total_time="$seconds" -max_len="$(longest "$t")" -timeout="$longest_run" -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -print_final_stats=1 -close_fd_mask=3 -artifact_prefix="$build/findings/$t-" "${more[@]}" "$corpus" "${found[@]}" >"$log" 2>&1; } 2>"$build/$t.time"
    rc=$?
    processor=$(awk '{ printf "%.0f", $1 + $2 }' "$build/$t.time")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)
    memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    state=ok
    if [ "$rc" -ne 0 ]; then
        bad=1 state="FOUND: $(grep -m 1 -oE 'SUMMARY: .*' "$log" || tail -n 1 "$log")"
    fi
    table+=("$(printf '%-12s %8s %10s %11s  %-36s %6s  %s' "$t" "$seconds" "$processor" "${runs:-?}" "${cover:-?}" "${memory:-?}" "$state")")
    echo "${table[-1]}" >&2
done
printf '\n%-12s %8s %10s %11s  %-36s %6s\n' target seconds processor executions 'edges, features, corpus' MiB
printf '%s\n' "${table[@]}"
exit $bad
