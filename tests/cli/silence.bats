#!/usr/bin/env bats
# Settings, files and machines that would make a difference, or none, without a word.
# shellcheck disable=SC2030,SC2031,SC2154
bats_require_minimum_version 1.5.0
load said

setup() { place; }

# trains STATUS TEXT OPTIONS...: pg-train on the golden batch
trains() { says "$1" "$2" bash -c "'$A' make pg1 | '$B/pg-train' -m $G/pg1.npz -o '$T/o.npz' --steps 1 --batch 4 ${*:3} >/dev/null"; }

@test "--weight-decay where no weight decays is a warning; where one does it is none" {
    trains 0 '--weight-decay has no effect' --weight-decay 0.1
    trains 0 '--weight-decay has no effect' --weight-decay 0.1 --train llm
    for o in "--train all" "--wd-mult attn=1" ; do
        trains 0 '' --weight-decay 0.1 "$o"
        [[ $stderr != *'no effect'* ]]
    done
}

@test "options that nothing looks at are usage errors" {
    for o in "--b1 0.8" "--b2 0.99" "--eps 1e-6"; do
        trains 2 'is for adamw' "$o"
        trains 0 '' --optimizer adamw "$o"
    done
    trains 2 '--wd-mult without --weight-decay' --wd-mult attn=1
    trains 2 'nothing is drawn' --no-shuffle --seed 3
    trains 2 'nothing is drawn' --stream --seed 3
    trains 0 '' --seed 3
}

@test "--dtype on a CPU without instructions for it: said once" {
    trains 0 '' --dtype f32
    [[ $stderr != *instructions* ]]
    export PG_CPU_DISABLE=bf16,avx512,avx2
    trains 0 'warning: --dtype bf16: this CPU has no instructions for it: float32 instead' --dtype bf16
    "$S" make pg1 decode >"$T/in"
    for d in bf16 int8; do
        says 0 "warning: --dtype $d: this CPU has no instructions for it" bash -c "'$B/pg-infer' -q -m $G/pg1.npz --dtype $d <'$T/in' >/dev/null"
        [ "$(grep -c instructions <<<"$stderr")" -eq 1 ]
    done
}

@test "--val without a tokenizer, or with examples without suffix: said" {
    "$A" make pg1 >"$T/val.pgs"
    trains 0 'validation captions stay tokens without text and scores' --val "$T/val.pgs"
    [[ $stderr == *"1 of 4 examples of '$T/val.pgs' has no suffix: each counts as a loss of 0"* ]]
    trains 0 '' --val "$T/val.pgs" --val-captions 0
    [[ $stderr != *'stay tokens'* ]]
    says 0 'no tokenizer goes along' bash -c "'$B/pg-train' -m $G/pg1.npz -o '$T/folder' --steps 1 <'$T/val.pgs' >/dev/null"
    says 1 "cannot open '$T/none.pgs': No such file" bash -c "'$B/pg-train' -m $G/pg1.npz -o '$T/o.npz' --val '$T/none.pgs' --steps 1 <'$T/val.pgs' >/dev/null"
}

@test "resuming: another content of the model's file is refused, another name of the same is not" {
    "$A" make pg1 >"$T/in.pgs"
    cp $G/pg1.npz "$T/m.npz"
    set -- --steps 4 --batch 2 --save-every 2
    "$B/pg-train" -q -m "$T/m.npz" -o "$T/o.npz" "$@" <"$T/in.pgs" >/dev/null 2>&1
    mv "$T/m.npz" "$T/elsewhere.npz"
    says 0 'resuming after step 4' bash -c "'$B/pg-train' -m '$T/elsewhere.npz' -o '$T/o.npz' $* --resume <'$T/in.pgs' >/dev/null"
    "$B/pg-train" -q -m $G/pg1.npz -o "$T/elsewhere.npz" --train img --steps 1 --batch 4 <"$T/in.pgs" >/dev/null 2>&1
    says 1 "is of another run: it has 'model " bash -c "'$B/pg-train' -m '$T/elsewhere.npz' -o '$T/o.npz' $* --resume <'$T/in.pgs' >/dev/null"
}

@test "resuming on a machine with other instructions is said, not refused" {
    "$A" make pg1 >"$T/in.pgs"
    set -- --steps 4 --batch 2 --save-every 2
    "$B/pg-train" -q -m $G/pg1.npz -o "$T/o.npz" "$@" <"$T/in.pgs" >/dev/null 2>&1
    says 0 'resuming' bash -c "'$B/pg-train' -m $G/pg1.npz -o '$T/o.npz' $* --resume <'$T/in.pgs' >/dev/null"
    [[ $stderr != *machine* ]]
    PG_CPU_DISABLE=avx512,avx2,neon says 0 'is of a machine with other instructions' bash -c "'$B/pg-train' -m $G/pg1.npz -o '$T/o.npz' $* --resume <'$T/in.pgs' >/dev/null"
}

@test "resuming with another validation set forgets what was best of the old one, and says so" {
    "$A" make pg1 >"$T/in.pgs"
    "$A" make pg1 same >"$T/other.pgs"
    set -- -m $G/pg1.npz -o "$T/o.npz" --steps 8 --batch 2 --save-every 2 --val-every 2 --patience 50 --val-captions 0
    "$B/pg-train" -q "$@" --val "$T/in.pgs" <"$T/in.pgs" 2>/dev/null | head -c 3000 >/dev/null || true
    says 0 '' "$B/pg-train" "$@" --val "$T/in.pgs" --resume <"$T/in.pgs"
    [[ $stderr != *forgotten* ]]
    says 0 'its smallest loss is forgotten' "$B/pg-train" "$@" --val "$T/other.pgs" --resume <"$T/in.pgs"
}

@test "--stream --resume goes on to the same bytes" {
    "$B/pg-fetch" -q $I/png-rgb8.png $I/jpg-420.jpg $I/jpg-gray.jpg $I/png-pal8.png $I/jpg-411.jpg $I/jpg-440.jpg | "$B/pg-resize" -m $M | "$B/pg-tokenize" -q -m $M >"$T/no-suffix"
    PY=$(tests/find-python msgpack) || skip 'no python3-msgpack'
    "$PY" - "$T/no-suffix" "$T/in.pgs" <<'P'
import msgpack, sys
header, *r, end = msgpack.Unpacker(open(sys.argv[1], "rb"), raw=False, strict_map_key=False, max_buffer_size=0)
with open(sys.argv[2], "wb") as f:
    f.write(msgpack.packb(header))
    for i, x in enumerate(r):
        for k, v in ("tokens", [30 + i, 40 + i, 1]), ("mask_ar", [1] * 3), ("mask_loss", [1] * 3), ("mask_input", [1] * 3):
            x[k] += v
        f.write(msgpack.packb(x))
    f.write(msgpack.packb({"pg-end": len(r)}))
P
    set -- -q -m $M --steps 3 --batch 2 --stream --save-every 1
    "$B/pg-train" "$@" -o "$T/whole.npz" <"$T/in.pgs" >/dev/null
    # The state of the second step: the run is cut while it writes its last events.
    mkfifo "$T/fifo"
    "$B/pg-train" "$@" -o "$T/cut.npz" <"$T/fifo" >/dev/null 2>&1 &
    pid=$!
    exec 7>"$T/fifo"
    size=$(wc -c <"$T/in.pgs")
    head -c $((size * 5 / 6)) "$T/in.pgs" >&7
    for _ in $(seq 200); do [ -f "$T/cut.npz.state" ] && break; sleep 0.05; done
    sleep 0.3
    kill -9 $pid
    wait $pid || true
    exec 7>&-
    [ ! -e "$T/cut.npz" ]
    "$B/pg-train" "$@" -o "$T/cut.npz" --resume <"$T/in.pgs" >/dev/null
    cmp "$T/whole.npz" "$T/cut.npz"
}

@test "a folder's GIF, BMP and WebP are counted and said; .jfif and .jpe are read" {
    mkdir -p "$T/p/below"
    cp $I/jpg-420.jpg "$T/p/a.jfif"
    cp $I/jpg-420.jpg "$T/p/b.JPE"
    cp $I/opt-gif.gif $I/opt-bmp.bmp "$T/p/"
    cp $I/opt-lossy.webp "$T/p/below/c.WEBP"
    touch "$T/p/notes.txt" "$T/p/d.json"
    says 0 "3 pictures were left out, the first 'below/c.WEBP': PNG and JPEG" bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-resize' -s 8 | '$B/pg-render' -f jsonl"
    [ "$(grep -c '"width"' <<<"$output")" -eq 2 ]
    says 0 '' bash -c "'$B/pg-fetch' '$T/p/a.jfif' | '$B/pg-resize' -s 8 >/dev/null"
    [ -z "$stderr" ]
}

@test "a caption that pg-render wrote beside a picture is told of when it is read back; one that a person changed is a person's" {
    mkdir "$T/p"
    cp $I/png-rgb8.png $I/jpg-420.jpg $I/jpg-gray.jpg "$T/p/"
    echo 'a person wrote this' >"$T/p/jpg-gray.txt"
    says 0 '' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-resize' -m $M | '$B/pg-tokenize' -q -m $M | '$B/pg-infer' -m $M | '$B/pg-render' -q -f sidecar"
    says 0 '2 captions beside the pictures, now their suffix, were written by pg-render' bash -c "'$B/pg-fetch' '$T/p' >/dev/null"
    echo 'corrected' >"$T/p/jpg-420.txt"
    says 0 '1 caption beside the pictures, now their suffix, was written by pg-render' bash -c "'$B/pg-fetch' '$T/p' >/dev/null"
    echo 'this one too' >"$T/p/png-rgb8.txt"
    says 0 '' bash -c "'$B/pg-fetch' '$T/p' >/dev/null"
    [ -z "$stderr" ]
}

@test "captions show what is not seen or turns a line around, messages do not let it through" {
    mkdir "$T/p"
    cp $I/png-rgb8.png "$T/p/$(printf 'a\033[31m\nb').png"
    cp $I/png-rgb8.png "$T/p/$(printf 'c\342\200\256gnp').png"
    cp $I/png-rgb8.png "$T/p/$(printf 'd\351').png"
    cp $I/png-rgb8.png "$T/p/e✓.png"
    "$B/pg-fetch" "$T/p" | "$B/pg-resize" -m $M | "$B/pg-tokenize" -m $M | "$B/pg-infer" -m $M >"$T/out.pgs"
    "$B/pg-render" -f captions "$T/out.pgs" | cut -f1 >"$T/ids"
    # the id of a name that is not UTF-8 is text with a backslash, and a backslash is shown as two
    printf '%s\n' 'a\x1b[31m\nb.png' 'c\u202egnp.png' 'd\\xe9.png' 'e✓.png' | diff - "$T/ids"
    "$B/pg-render" -f jsonl "$T/out.pgs" | grep -q '"id":"c\\u202egnp.png"'
    printf x >"$T/p/$(printf 'f\342\200\256\033').png"
    says 4 "'f????.png'" bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-resize' -s 8 >/dev/null"
    # Nor do the tools that write text, whether it is theirs or a message: here a key, {"a\u009b": true}, and names of files.
    printf '\x82\xa9pg-stream\x92\x01\x00\xa4kind\xa8examples\x81\xa3a\xc2\x9b\xc3\x81\xa6pg-end\x01' >"$T/$(printf 'k\342\200\256').pgs"
    run "$B/pg-info" "$T/$(printf 'k\342\200\256').pgs"
    [ "$status" -eq 0 ]
    [[ $output == *"/k?.pgs"*"a?: bool"* ]] || { echo "$output"; false; }
    says 1 "none???.pgs'" "$B/pg-info" "$(printf 'none\342\200\256').pgs"
    says 1 "none???.png'" "$B/pg-fetch" -o "$T/o" "$(printf 'none\342\200\256').png"
}

@test "a loss that rose is told of at the end, with both values, also where the run was resumed; one that fell is not" {
    for p in png-rgb8-64.png jpg-420.jpg; do echo "{\"image\":\"$PWD/$I/$p\",\"suffix\":\"a thing\"}"; done >"$T/in.jsonl"
    "$B/pg-fetch" "$T/in.jsonl" | "$B/pg-resize" -m $M | "$B/pg-tokenize" -q -m $M >"$T/in.pgs"
    rises='warning: the loss rose from '
    says 0 '' bash -c "'$B/pg-train' -m $M -o '$T/knows' --steps 60 --batch 2 <'$T/in.pgs' >/dev/null"
    [[ $stderr != *"$rises"* ]]
    losses() { "$B/pg-render" -f jsonl 2>/dev/null | sed -nE 's/.*"event":"step".*"loss":([0-9.]+).*/\1/p'; }
    set -- -m "$T/knows" -o "$T/o.npz" --lr 3e4 --steps 5 --batch 2
    "$B/pg-train" "$@" --save-every 5 <"$T/in.pgs" 2>"$T/err" >"$T/events.pgs"
    losses <"$T/events.pgs" >"$T/losses"
    cat "$T/losses" "$T/err"
    awk 'NR == 1 { first = $1 } NR > 1 { low += $1 <= first + 1 } END { exit NR != 5 || low }' "$T/losses"
    says=$(awk 'NR == 1 { first = m = $1 } { m += ($1 - m) / (NR < 10 ? NR : 10) } END { printf "%.4g in the first step to %.4g at the end", first, m }' "$T/losses")
    grep -qF "$rises$says: " "$T/err"
    says 0 "$rises$says: " bash -c "'$B/pg-train' ${*@Q} --resume <'$T/in.pgs' >/dev/null"
    [[ $stderr == *'resuming after step 5 of 5'* ]]
}

@test "a loss that is no number ends training: status 1, the checkpoint and the last save that were there stay as they are" {
    "$A" make pg1 >"$T/in.pgs"
    echo precious >"$T/o.npz"
    trains 1 'the loss is not a number at step ' --steps 9 --lr 1e30
    [[ $stderr == *'try a smaller --lr or --clip 1; nothing was written'* ]]
    [ "$(cat "$T/o.npz")" = precious ]
    trains 1 'at step ' --steps 9 --lr 1e30 --save-every 1
    [[ $stderr == *'the last save is kept'* ]]
    [ "$(cat "$T/o.npz")" = precious ]
    [ -s "$T/o.npz.state" ]
}
