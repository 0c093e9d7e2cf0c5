#!/usr/bin/env bats
# pipelines/: how the scripts end. Signals, programs that fail, two at once.
# shellcheck disable=SC2154 # bats sets stderr
bats_require_minimum_version 1.5.0
load small

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
    export PG_BIN=$B LENGTH=32
    small
    pictures
}

teardown() { # whatever a failed test has left
    local p
    for p in $(left); do kill -9 "$p" 2>/dev/null || true; done
}

# Processes that have the test's folder in their command line, and are none of bats' own.
left() { pgrep -f -- "(pg-[a-z]*|pipelines/[a-z-]*[.]sh) .*$T/" || true; }

# until_there FILE: or half a minute
until_there() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ ! -e "$1" ] || return 0
        sleep 0.05
    done
    return 1
}

# begin COMMAND...: in the background, with the signals of a shell's foreground; $job
begin() {
    env --default-signal=INT,QUIT "$@" >"$T/log" 2>&1 3>&- &
    job=$!
}

# ended STATUS: $job ends with it, and nothing of it goes on
ended() {
    local status=0
    wait "$job" || status=$?
    cat "$T/log"
    echo "status $status, left: $(left)"
    [ "$status" -eq "$1" ]
    [ -z "$(left)" ]
}

# one STATUS TEXT COMMAND...: fails so, with this line alone on standard error
one() {
    local want=$1 text=$2
    shift 2
    run --separate-stderr "$@"
    [ "$status" -eq "$want" ] || { echo "status $status: $stderr"; false; }
    [[ $stderr == *"$text"* && $stderr != *$'\n'* ]] || { echo "$stderr"; false; }
}

@test "finetune.sh MODEL TRAIN OUT: TERM, HUP, INT and QUIT end training with the script; called again it goes on to the same weights" {
    set -- pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/job" --batch 2
    local s=0
    for sig in TERM HUP INT QUIT; do
        s=$((s + 1))
        rm -rf "$T/job" "$T/job.state"
        SAVE_EVERY=20 begin "$@" --steps 100000
        until_there "$T/job.state"
        kill -s "$sig" "$job"
        ended $((128 + $(kill -l $sig)))
        [ -s "$T/job.state" ]
    done
    rm -rf "$T/job" "$T/job.state"
    SAVE_EVERY=20 begin "$@" --steps 3000
    until_there "$T/job.state"
    kill "$job"
    ended 143
    run "$@" --steps 3000
    [ "$status" -eq 0 ]
    [[ $output == *"resuming after step "*"done: step 3000"* ]] || { echo "$output"; false; }
    SAVE_EVERY=0 "$1" "$2" "$3" "$T/whole" --batch 2 --steps 3000 >"$T/log"
    cmp "$T/job/model.npz" "$T/whole/model.npz"
}

@test "finetune.sh DIR: TERM ends it, whole events stay, and the next call goes on; another call meanwhile is refused" {
    export MODEL_SOURCE=$T/m TRAIN_SOURCE=$T/pictures/train.jsonl VAL_SOURCE=$T/pictures/train.jsonl STEPS=100000 BATCH=2 SAVE_EVERY=20
    begin pipelines/finetune.sh "$T/job"
    until_there "$T/job/tuned.state"
    ls --ignore='*.tmp.*' "$T/job" >"$T/before"
    run -1 pipelines/finetune.sh "$T/job"
    [[ $output == *"another run is at work in '$T/job'"* ]] || { echo "$output"; false; }
    ls --ignore='*.tmp.*' "$T/job" | diff "$T/before" -
    kill "$job"
    ended 143
    # tee had all that training wrote: the stream is cut between events.
    "$B/pg-render" -f text "$T/job/events.pgs.new" 2>"$T/err" >"$T/steps" || true
    grep -q 'is cut: no end record after' "$T/err"
    grep -q '^step: *20/100000 ' "$T/steps"
    begin pipelines/finetune.sh "$T/job"
    until_there "$T/job/events-00.pgs"
    kill -9 -- "$(pgrep -f -- "pg-train .*$T/job/tuned")"
    wait "$job" || status=$?
    [ "$status" -eq 137 ]
    grep -q 'resuming after step' "$T/log"
}

@test "Ctrl-C at a terminal ends all of it" {
    python3 - "$T" pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/job" --steps 100000 --batch 2 <<'P'
import os, pty, sys, time
pid, fd = pty.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
said = b""
while b"step:" not in said:
    said += os.read(fd, 4096)
os.write(fd, b"\x03")
try:
    while os.read(fd, 4096):
        pass
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 2, status
P
    [ -z "$(left)" ]
}

@test "kill -9 of a script alone: what it was doing ends, nothing follows" {
    export MODEL_SOURCE=$T/m TRAIN_SOURCE=$T/pictures/train.jsonl VAL_SOURCE=$T/pictures/train.jsonl STEPS=600 BATCH=2 SAVE_EVERY=20
    begin pipelines/finetune.sh "$T/job"
    until_there "$T/job/tuned.state"
    kill -9 "$job"
    for ((i = 0; i < 600; i++)); do
        [ -n "$(left)" ] || break
        sleep 0.05
    done
    [ -z "$(left)" ]
    [ ! -e "$T/job/after.pgs" ]
    [ ! -e "$T/job/report.html" ]
}

@test "TERM ends the other scripts and what they run" {
    local i
    for ((i = 0; i < 20000; i++)); do printf '{"image":"1.png","id":"%d","suffix":"a thing"}\n' "$i"; done >"$T/pictures/many.jsonl"
    "$B/pg-fetch" "$T/pictures/train.jsonl" | "$B/pg-resize" -m "$T/m" | "$B/pg-tokenize" -q -m "$T/m" >"$T/x.pgs"
    stopped() { # stopped PROGRAM COMMAND...: TERM once the program runs
        begin "${@:2}"
        for ((i = 0; i < 400; i++)); do
            ! pgrep -f -- "$1 .*$T/" >/dev/null || break
            sleep 0.05
        done
        [ "$i" -lt 400 ] || { cat "$T/log"; return 1; }
        kill "$job"
        ended 143
    }
    stopped pg-infer pipelines/caption.sh "$T/m" "$T/pictures/many.jsonl"
    stopped pg-train pipelines/transfer.sh cococap "$T/m" "$T/pictures/train.jsonl" "$T/job" --steps 100000 --batch 2 --train attention
    stopped pg-train make -f pipelines/sweep.mk PG_BIN="$B" MODEL="$T/m" TRAIN="$T/x.pgs" VAL="$T/x.pgs" OUT="$T/sweep" STEPS=100000 BATCH=2 LRS=0.1 SEEDS=0
    if command -v jq >/dev/null; then
        stopped pg-infer pipelines/caption-shards.sh "$T/m" "$T/shards" "$T/pictures/many.jsonl"
        stopped pg-infer pipelines/evaluate.sh "$T/m" "$T/pictures/many.jsonl" "$T/pictures" "$T/evaluation"
    fi
    if parallel --version 2>/dev/null | grep -q GNU; then
        stopped pg-tokenize pipelines/preprocess.sh "$T/m" "$T/prepared" "$T/pictures/many.jsonl"
        [ -z "$(find "$T/prepared" -name '*.pgs')" ]
    fi
}

@test "a script hands standard input on, and its status is the pipeline's" {
    cd "$T/pictures"
    "$OLDPWD/pipelines/finetune.sh" "$T/m" - "$T/job" --steps 1 --batch 2 <train.jsonl
    [ -f "$T/job/model.npz" ]
    echo 'no picture' >2.png
    run -4 "$OLDPWD/pipelines/caption.sh" "$T/m" - <train.jsonl
    [ "$(grep -c '^[134][.]png' <<<"$output")" -eq 3 ]
}

@test "a program that fails in a pipeline: its message alone, and its status" {
    one 1 "pg-fetch: cannot read '$T/none'" pipelines/caption.sh "$T/m" "$T/none"
    one 1 "pg-fetch: cannot read '$T/none'" pipelines/finetune.sh "$T/m" "$T/none" "$T/tuned"
    one 1 "pg-fetch: cannot read '$T/none'" pipelines/transfer.sh cococap "$T/m" "$T/none" "$T/tuned"
    mkdir "$T/bare"
    cp "$T/m/model.npz" "$T/bare/"
    one 1 "pg-tokenize: no tokenizer.model in '$T/bare'" pipelines/caption.sh "$T/bare" "$T/pictures/train.jsonl" "$T/report.html"
    one 1 "pg-tokenize: no tokenizer.model in '$T/bare'" pipelines/finetune.sh "$T/bare" "$T/pictures/train.jsonl" "$T/tuned"
    [ ! -e "$T/report.html" ]
    [ ! -e "$T/tuned" ]
    one 1 "pg-train: " pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/no/such/folder"
    run --separate-stderr -2 pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/tuned" --no-such
    [ "$stderr" = "pg-train: unknown option '--no-such'"$'\n'"Try 'pg-train --help'." ]
    if command -v jq >/dev/null; then
        one 1 "pg-tokenize: no tokenizer.model in '$T/bare'" pipelines/evaluate.sh "$T/bare" "$T/pictures/train.jsonl" "$T/pictures" "$T/evaluation"
    fi
    # One that was killed says nothing itself.
    mkdir "$T/bin"
    ln -s "$B"/pg-* "$T/bin/"
    rm "$T/bin/pg-tokenize"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nkill -9 $$\n' >"$T/bin/pg-tokenize"
    chmod +x "$T/bin/pg-tokenize"
    PG_BIN=$T/bin run -137 pipelines/caption.sh "$T/m" "$T/pictures/train.jsonl"
    [[ $output == *'caption.sh: a program was ended by SIGKILL'* ]] || { echo "$output"; false; }
}

@test "PG_QUIET_CUT is for pipes: without it, and of files, every cut is told" {
    "$B/pg-fetch" "$T/pictures/train.jsonl" >"$T/x.pgs"
    head -c $(($(wc -c <"$T/x.pgs") - 20)) "$T/x.pgs" >"$T/cut.pgs"
    for n in '' "$T/cut.pgs"; do
        run -3 bash -c "cat ${n:-/dev/null} | '$B/pg-resize' -s 8 >'$T/out'"
        [[ $output == *standard\ input* ]]
        PG_QUIET_CUT=1 run -3 bash -c "'$B/pg-resize' -s 8 <${n:-/dev/null} >'$T/out'"
        [[ $output == *standard\ input* ]]
        PG_QUIET_CUT=1 run -3 bash -c "cat ${n:-/dev/null} | '$B/pg-resize' -s 8 >'$T/out'"
        [ -z "$output" ]
    done
    # Bytes that are no stream are nobody else's to tell.
    PG_QUIET_CUT=1 run -3 bash -c "cat README.md | '$B/pg-resize' -s 8 >'$T/out'"
    [[ $output == *'is not a pg stream'* ]]
}

@test "pg-train: a second one with the same output is refused while the first runs, and not once it was killed" {
    "$B/pg-fetch" "$T/pictures/train.jsonl" | "$B/pg-resize" -m "$T/m" | "$B/pg-tokenize" -q -m "$T/m" >"$T/x.pgs"
    mkdir "$T/hf"
    "$B/pg-convert" "$T/m/model.npz" "$T/hf/model.safetensors"
    cp "$T/m/tokenizer.model" "$T/hf/"
    cd "$T"
    for out in m:out m:file.npz m:file.safetensors hf:dir; do
        set -- -m "${out%:*}" -o "${out#*:}" --batch 2
        out=${out#*:}
        "$B/pg-train" -q "$@" --steps 100000 --save-every 50 <x.pgs >"$T/log" 3>&- &
        job=$!
        until_there "$out.state"
        for more in '' --resume; do
            # shellcheck disable=SC2086
            run --separate-stderr -1 "$B/pg-train" "$@" --steps 3 $more <x.pgs
            [[ $stderr == *"pg-train: another pg-train is writing '$out': wait for it, end it, or choose another --output" ]] || { echo "$stderr"; false; }
        done
        # Another one beside it is no concern of its.
        "$B/pg-train" -q -m m -o beside.npz --steps 1 --batch 2 <x.pgs >"$T/log2"
        kill -9 "$job"
        wait "$job" || true
        "$B/pg-train" -q "$@" --steps 3 <x.pgs >"$T/log2"
        [ -e "$out" ]
        [ ! -e "$out.tmp.locked" ]
    done
}
