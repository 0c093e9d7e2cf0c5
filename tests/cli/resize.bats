#!/usr/bin/env bats
# pg-resize: the golden pictures through the tool, bad ones, options, memory that does not grow.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    X=$B/tests/image/aux_examples
    G=tests/golden/image
    T=$BATS_TEST_TMPDIR
    [ -x "$X" ] || { echo "$X is not built: make everything"; return 1; }
}

# resize OPTIONS... < text on stdout; the tool's own status in $T/status, its messages in $T/err
resize() {
    {
        local rc=0
        "$B/pg-resize" "$@" 2>"$T/err" || rc=$?
        echo $rc >"$T/status"
    } | "$X" show
}

status_is() { [ "$(cat "$T/status")" -eq "$1" ] || { cat "$T/status" "$T/err"; false; }; }

@test "the golden pictures give the oracle's bits, both orientations" {
    "$X" make 1 "$G"/png-*.png "$G"/jpg-*.jpg >"$T/in"
    for orient in 0 1; do
        opt=(--no-orient)
        [ $orient = 0 ] || opt=()
        for size in 64 224; do
            resize -s $size "${opt[@]}" <"$T/in" >"$T/out"
            status_is 0
            awk '{print $1, $4}' "$T/out" | sort >"$T/got"
            awk -v o=$orient -v s=$size '$2 == o && $3 == s {print $1, $4}' "$G/answers.txt" | sort >"$T/want"
            [ "$(wc -l <"$T/want")" -eq 45 ]
            diff "$T/want" "$T/got"
        done
    done
}

@test "keys, shape and the original's size" {
    run bash -c "'$X' make 1 $G/jpg-exif6.jpg | '$B/pg-resize' | '$X' show"
    [[ $output == "jpg-exif6.jpg 31x53 <f4224,224,3 "*" id,image,suffix,pixels,width,height ok" ]] || { echo "$output"; false; }
    run --separate-stderr bash -c "'$X' make 1 $G/jpg-exif6.jpg | '$B/pg-resize' --no-orient -s 5 --drop-image | '$X' show"
    [[ $output == "jpg-exif6.jpg 53x31 <f45,5,3 "*" id,suffix,pixels,width,height ok" ]] || { echo "$output"; false; }
}

@test "pixels that are there already are replaced" {
    run bash -c "'$X' make 1 $G/png-rgb8.png | '$B/pg-resize' -s 8 | '$B/pg-resize' -s 64 | '$X' show"
    [[ $output == *"<f464,64,3 "*"id,image,suffix,pixels,width,height ok" ]]
    [[ $output == *"$(awk '$1 == "png-rgb8.png" && $2 == 1 && $3 == 64 {print $4}' "$G"/answers.txt)"* ]]
}

@test "bad pictures carry an error, the others come through, status 4" {
    "$X" make 1 "$G/png-rgb8.png" "$G"/bad/bad-* "$G/opt-gif.gif" none broken "$G/jpg-420.jpg" >"$T/in"
    resize -s 16 <"$T/in" >"$T/out"
    status_is 4
    [ "$(wc -l <"$T/out")" -eq 36 ]
    while read -r name want; do
        line=$(grep "^$name " "$T/out")
        case $want in
            ok) [[ $line == *" ok" ]] || { echo "$line"; false; } ;;
            error)
                [[ $line == *" pg-resize: cannot decode '$name': "* ]] || { echo "$line"; false; }
                grep -qF "pg-resize: cannot decode '$name': " "$T/err"
                ;;
            either) [[ $line == *" pg-resize: cannot decode "* ]] || grep -qF "pg-resize: warning: '$name': " "$T/err" || { echo "$line"; false; } ;;
        esac
    done <"$G/bad/want.txt"
    grep -q "^opt-gif.gif .* pg-resize: cannot decode 'opt-gif.gif': GIF is not supported; convert it to PNG or JPEG$" "$T/out"
    grep -q "^none 0x0  - id,suffix,error pg-resize: cannot decode 'none': the record has no image$" "$T/out"
    grep -q "^broken 0x0  - id,error,suffix pg-fetch: lost$" "$T/out"
    head -n 1 "$T/out" | grep -q "^png-rgb8.png 61x47 .* ok$"
    tail -n 1 "$T/out" | grep -q "^jpg-420.jpg 120x90 .* ok$"
}

@test "--background: white and #ffffff are the same, and not the same as dropping alpha" {
    "$X" make 1 "$G/png-rgba8.png" >"$T/in"
    resize -s 32 --background white <"$T/in" >"$T/white"
    resize -s 32 --background '#FFffFF' <"$T/in" >"$T/hex"
    resize -s 32 --background=black <"$T/in" >"$T/black"
    resize -s 32 <"$T/in" >"$T/dropped"
    cmp "$T/white" "$T/hex"
    run ! cmp -s "$T/white" "$T/black"
    run ! cmp -s "$T/white" "$T/dropped"
}

@test "--filter bicubic and --max-pixels" {
    "$X" make 1 "$G/png-rgb8.png" >"$T/in"
    resize -s 64 --filter bicubic <"$T/in" >"$T/bicubic"
    resize -s 64 --filter bilinear <"$T/in" >"$T/bilinear"
    status_is 0
    run ! cmp -s "$T/bicubic" "$T/bilinear"
    resize --max-pixels 2866 <"$T/in" >"$T/out"
    status_is 4
    grep -q "61x47 pixels are more than the limit of 2866" "$T/out"
    resize --max-pixels 2867 <"$T/in" >"$T/out"
    status_is 0
}

@test "usage errors exit 2 and name the culprit" {
    for o in '-s 0' '-s 8193' '-s x' '--filter nearest' '--background mauve' '--background #12345' '--max-pixels 0' 'operand'; do
        # shellcheck disable=SC2086
        run "$B/pg-resize" $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status"; false; }
        [[ $output == *"${o#* }"* ]] || { echo "$o: $output"; false; }
    done
}

@test "a cut stream exits 3" {
    "$X" make 3 "$G/jpg-420.jpg" | head -c 5000 >"$T/in"
    run bash -c "'$B/pg-resize' <'$T/in' >/dev/null"
    [ "$status" -eq 3 ]
}

@test "an interactive pipeline is answered record by record" {
    "$X" make 1 "$G/png-rgb8.png" >"$T/in"
    end=$(grep -abo 'pg-end' "$T/in" | tail -n 1 | cut -d: -f1)
    mkfifo "$T/fifo"
    "$B/pg-resize" -s 8 <"$T/fifo" >"$T/out" &
    pid=$!
    exec 7>"$T/fifo"
    head -c $((end - 2)) "$T/in" >&7
    for _ in $(seq 100); do
        grep -q pixels "$T/out" && break
        sleep 0.05
    done
    grep -q pixels "$T/out"
    tail -c +$((end - 1)) "$T/in" >&7
    exec 7>&-
    wait $pid
    "$X" show <"$T/out"
}

@test "any number of threads: the same records in the same order, also before a cut" {
    "$X" make 40 "$G/jpg-420.jpg" "$G/bad/bad-text.jpg" "$G/png-rgb8.png" "$G/jpg-420-517x389.jpg" >"$T/in"
    for j in 1 2 5; do
        run -4 --separate-stderr bash -c "'$B/pg-resize' -s 32 -j $j <'$T/in' >'$T/$j'"
        "$B/pg-render" -f jsonl --with-tensors <"$T/$j" >"$T/$j.jsonl" || true
        head -c 300000 "$T/in" >"$T/cut"
        run -3 bash -c "'$B/pg-resize' -s 32 -j $j <'$T/cut' >'$T/$j.cut'"
        "$B/pg-render" -f jsonl <"$T/$j.cut" >"$T/$j.cut.jsonl" 2>/dev/null || true
    done
    [ "$(wc -l <"$T/1.jsonl")" -eq "$("$X" show <"$T/1" | wc -l)" ]
    [ "$(wc -l <"$T/1.cut.jsonl")" -gt 5 ]
    for j in 2 5; do
        cmp "$T/1.jsonl" "$T/$j.jsonl"
        cmp "$T/1.cut.jsonl" "$T/$j.cut.jsonl"
    done
}

@test "memory does not grow from 100 to 10000 records" {
    command -v /usr/bin/time >/dev/null || skip "no time(1)"
    peak() { "$X" make "$1" "$G/jpg-420-7x3.jpg" | /usr/bin/time -f %M -o "$T/peak" "$B/pg-resize" -s 16 >"$T/out"; cat "$T/peak"; }
    few=$(peak 100)
    many=$(peak 10000)
    [ "$("$X" show <"$T/out" | wc -l)" -eq 10000 ]
    echo "KiB: $few, $many"
    [ $((many - few)) -lt 512 ]
}
