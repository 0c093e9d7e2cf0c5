#!/usr/bin/env bats
# pg-fetch and faults that servers were seen to have, scripted in tests/net/servers.py. Each ends in a whole verified file or in a
# clear error, never in a wrong file.
# shellcheck disable=SC1091,SC2154,SC2030,SC2031 # variables come from net.sh; each test is a subshell
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup_file
}

teardown_file() { kill "$SERVERS"; }

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup
}

teardown() { net_teardown; }

# --- redirects

@test "redirects: absolute, relative, another port, another name of the host, a circle" {
    export HF_TOKEN=hf_good
    faults '{"role":"web","match":"/r.bin","do":"redirect","to":"/d/big.bin"}'
    get "$W/r.bin"
    cmp "$T/o/r.bin" "$BIG"
    faults '{"role":"web","match":"/r2.bin","do":"redirect","status":307,"to":"http://127.0.0.1:{web}/d/big.bin"}'
    get "$W/r2.bin"
    cmp "$T/o/r2.bin" "$BIG"
    # The token goes neither to another port nor to another name, nor back again after having been away.
    faults '{"role":"hub","match":"config.json","do":"redirect","to":"http://localhost:{hub}/google/pg/resolve/main/tokenizer.model"}'
    get hf://google/pg/config.json@main
    requests 'main/tokenizer.model' | grep -q '"auth": false'
    rm -r "$T/o"
    faults '{"role":"hub","match":"config.json","do":"redirect","to":"http://127.0.0.1:{web}/back"}' \
        '{"role":"web","match":"/back","do":"redirect","to":"http://127.0.0.1:{hub}/google/pg/resolve/main/train.jsonl"}'
    get hf://google/pg/config.json
    requests 'main/train.jsonl' | grep -q '"auth": false'
    requests '/back' | grep -q '"auth": false'
    faults '{"role":"web","match":"/loop","do":"redirect","to":"/loop.bin","times":99}'
    get "$W/loop.bin"
    fails 'redirected more than 10 times' loop.bin
    faults '{"role":"web","match":"/r3","do":"redirect","to":"file:///etc/passwd"}'
    get "$W/r3.bin"
    [ "$rc" -eq 1 ]
    [ ! -e "$T/o/r3.bin" ]
}

# --- resuming

@test "resume: the rest is asked for and joined" {
    half
    faults
    get -v "$W/d/big.bin"
    whole big.bin "$BIG"
    [ "$(ranges)" = '"range": "bytes=150000-" ' ]
}

@test "resume: within one run, after a cut and after a reset; the counter of tries starts anew with progress" {
    faults '{"role":"web","do":"cut","at":100000}' '{"role":"web","do":"rst","at":100000}'
    get --tries 2 "$W/d/big.bin"
    whole big.bin "$BIG"
    requests '"range": "bytes=100000-"' | grep -q .
}

@test "resume: 200 to a range, a wrong range, another etag, a part longer than the file, a part that is complete" {
    half
    faults '{"role":"web","do":"ignore-range"}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"

    half
    faults '{"role":"web","do":"wrong-range"}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    grep -q 'starting over' "$T/err"
    rm -r "$T/o"

    half
    faults
    head -c 300000 /dev/urandom >"$BIG"
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    [ "$(ranges)" = '"range": "bytes=150000-" "range": null ' ]
    rm -r "$T/o"

    half
    faults
    cat "$BIG" >>"$T/o/big.bin.part" # longer than the sidecar says
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"

    half
    faults
    cp "$BIG" "$T/o/big.bin.part"
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    [ "$(ranges)" = '"range": "bytes=300000-" ' ]
    rm -r "$T/o"

    half
    faults
    head -c 200000 "$BIG" >"$BIG.new" && mv "$BIG.new" "$BIG" # the file has shrunk: 206 of another size
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    head -c 300000 /dev/urandom >"$BIG"
}

@test "resume: a part without a sidecar, with a broken one, of another source, of damaged bytes" {
    half
    rm "$T/o/big.bin.part.json"
    faults
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"

    half
    echo '{"source": ' >"$T/o/big.bin.part.json"
    faults
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"

    half
    sed -i 's/127.0.0.1/127.0.0.2/' "$T/o/big.bin.part.json"
    faults
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    [ "$(ranges)" = '"range": null ' ]
    rm -r "$T/o"

    # Bytes that went bad on the disk: the checksum of the whole tells, and it is fetched anew.
    cp "$BIG" "$ROOT/storage/odd/big.bin"
    faults '{"role":"storage","match":"big","do":"cut","at":100000}'
    get --tries 1 gs://odd/big.bin
    fails 'after 100000'
    printf X | dd of="$T/o/big.bin.part" bs=1 seek=5 conv=notrunc status=none
    faults
    get gs://odd/big.bin
    whole big.bin "$BIG"
    grep -q 'checksum is wrong; starting over' "$T/err"
    rm "$ROOT/storage/odd/big.bin"
}

@test "resume: bytes are not joined over a weak validator, as W/ or a date of just now are" {
    for etag in weak now 'Tue, 01 Sep 2026 10:00:00 GMT'; do
        faults "{\"role\":\"web\",\"match\":\"big\",\"do\":\"cut\",\"at\":150000,\"etag\":\"$etag\"}"
        get --tries 1 "$W/d/big.bin"
        fails 'after 150000' big.bin
        faults "{\"role\":\"web\",\"match\":\"big\",\"do\":\"plain\",\"etag\":\"$etag\",\"times\":9}"
        get "$W/d/big.bin"
        whole big.bin "$BIG"
        case $etag in
        Tue*) [ "$(ranges)" = '"range": "bytes=150000-" ' ] ;;
        *) [ "$(ranges)" = '"range": "bytes=150000-" "range": null ' ] ;;
        esac
        rm -r "$T/o"
    done
}

@test "resume: an object that was replaced meanwhile, an address that expires in the middle" {
    head -c 300000 /dev/urandom >"$ROOT/storage/odd/new.bin"
    faults '{"role":"storage","match":"new.bin","do":"cut","at":100000}'
    get --tries 1 gs://odd/new.bin
    fails 'after 100000' new.bin
    faults
    sleep 0.01
    head -c 300000 /dev/urandom >"$ROOT/storage/odd/new.bin" # as long as before
    get gs://odd/new.bin
    whole new.bin "$ROOT/storage/odd/new.bin"
    rm "$ROOT/storage/odd/new.bin"

    export KAGGLE_API_TOKEN=kaggle_good
    faults '{"role":"storage","match":"kaggle-models-data","do":"cut","at":100000}' \
        '{"role":"storage","match":"kaggle-models-data","do":"status","status":403,"skip":1}'
    get "$M"
    whole paligemma-3b-pt-224.f16.npz "$F16"
    [ "$(requests kaggle-models-data | grep -o '"range": [^,]*' | tr '\n' ' ')" = '"range": null "range": "bytes=100000-" "range": "bytes=100000-" ' ]
    [ "$(requests 1/download | wc -l)" -eq 3 ]
}

# --- bodies

@test "bodies: chunked, cut inside chunks, without a length, gzip though not asked for, longer or shorter than announced" {
    faults '{"role":"web","do":"chunked"}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    faults '{"role":"web","do":"chunked-cut","at":1000}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    faults '{"role":"web","do":"no-length","times":9}'
    get "$W/d/big.bin"
    fails 'neither a length nor a checksum' big.bin
    # With a checksum, a body without a length can be told from a cut one.
    cp "$BIG" "$ROOT/storage/odd/big.bin"
    faults '{"role":"storage","match":"media","do":"no-length"}'
    get gs://odd/big.bin
    whole big.bin "$BIG"
    rm -r "$T/o"
    faults '{"role":"storage","match":"media","do":"no-length","at":5000}'
    get gs://odd/big.bin
    whole big.bin "$BIG"
    rm "$ROOT/storage/odd/big.bin"
    rm -r "$T/o"
    faults '{"role":"web","do":"gzip","times":9}'
    get "$W/d/big.bin"
    fails 'compressed (gzip)' big.bin
    faults '{"role":"web","do":"cut","at":300000,"longer":7,"times":9}'
    get --tries 2 "$W/d/big.bin"
    [ "$rc" -eq 1 ] || [ "$rc" -eq 0 ]
    [ ! -e "$T/o/big.bin" ] || cmp "$T/o/big.bin" "$BIG"
    faults '{"role":"web","match":"portal","do":"status","status":200,"body":"<html>log in</html>","ctype":"text/html"}'
    get "$W/portal.bin"
    fails 'a web page instead of the file' portal.bin
}

@test "checksums: wrong bytes are fetched once more, twice wrong is an error; duplicate, joined and contradictory x-goog-hash" {
    for role_source in storage:gs://longcap100/1.jpeg storage:hf://google/pg/tokenizer.model; do
        rm -rf "$T/o"
        s=${role_source#*:}
        [[ $s == gs* ]] && from=$ROOT/storage/longcap100/1.jpeg || from=$ROOT/hub/google/pg/tokenizer.model
        faults '{"role":"storage","do":"corrupt"}'
        get "$s"
        whole "${s##*/}" "$from"
        grep -q 'checksum is wrong' "$T/err"
        rm -r "$T/o"
        faults '{"role":"storage","do":"corrupt","times":9}'
        get "$s"
        fails 'and should be' "${s##*/}"
        no_leftovers
    done
    md5=$(openssl md5 -binary "$ROOT/storage/longcap100/2.jpeg" | base64)
    for hashes in "\"md5=$md5\",\"md5=$md5\"" "\"crc32c=AAAAAA==,md5=$md5\"" "\"md5=1B2M2Y8AsgTpgAmY7PhCfg==\"" "\"md5=$md5\",\"md5=1B2M2Y8AsgTpgAmY7PhCfg==\""; do
        rm -rf "$T/o"
        # The object by name, where the listing is refused: only the reply's headers tell the checksums.
        faults '{"role":"storage","match":"maxResults","do":"status","status":401,"times":9}' "{\"role\":\"storage\",\"match\":\"media\",\"do\":\"hashes\",\"hashes\":[$hashes],\"times\":9}"
        get gs://longcap100/2.jpeg
        case $hashes in
        *crc32c*) fails 'its crc32c is' 2.jpeg ;;
        *,*1B2M*) fails 'contradict' 2.jpeg ;;
        *1B2M*) fails 'its md5 is' 2.jpeg ;;
        *) whole 2.jpeg "$ROOT/storage/longcap100/2.jpeg" ;;
        esac
        no_leftovers
    done
    # Stored compressed, sent plain: the checksum is that of other bytes.
    faults '{"role":"storage","match":"maxResults","do":"status","status":401,"times":9}' '{"role":"storage","match":"media","do":"hashes","hashes":["md5=1B2M2Y8AsgTpgAmY7PhCfg=="],"stored":"gzip"}'
    get gs://longcap100/2.jpeg
    whole 2.jpeg "$ROOT/storage/longcap100/2.jpeg"
    grep -q 'stored compressed' "$T/err"
}

@test "--sha256 holds for the other way of asking, and for a part that was complete" {
    export KAGGLE_API_TOKEN=kaggle_good
    zeros=$(printf '%064d' 0)
    faults '{"role":"kaggle","match":"/v1/models/","do":"status","status":404,"body":"<html>gone</html>","ctype":"text/html","times":9}'
    get --sha256 "$zeros" "$M/1/paligemma-3b-pt-224.f16.npz"
    fails 'its sha256 is' paligemma-3b-pt-224.f16.npz
    requests ModelApiService | grep -q .
    get --sha256 "$(sha256sum <"$F16" | cut -d' ' -f1)" "$M/1/paligemma-3b-pt-224.f16.npz"
    whole paligemma-3b-pt-224.f16.npz "$F16"

    half
    faults
    cp "$BIG" "$T/o/big.bin.part"
    get --sha256 "$zeros" "$W/d/big.bin"
    fails 'its sha256 is' big.bin
    [ "$(ranges)" = '"range": "bytes=300000-" "range": null ' ]
    no_leftovers

    # Complete, and replaced by another of the same length meanwhile: the 416 has another etag.
    half
    cp "$BIG" "$T/o/big.bin.part"
    head -c 300000 /dev/urandom >"$BIG"
    faults
    get "$W/d/big.bin"
    whole big.bin "$BIG"
}

# --- statuses

@test "statuses that pass: 503, 500, 408, 429 with seconds, a date, the hub's ratelimit; given up after the tries" {
    for s in 503 500 408; do
        rm -rf "$T/o"
        faults "{\"role\":\"web\",\"do\":\"status\",\"status\":$s,\"body\":\"<html>busy</html>\",\"ctype\":\"text/html\"}"
        get "$W/d/big.bin"
        whole big.bin "$BIG"
        absent html "$T/err"
    done
    rm -r "$T/o"
    faults '{"role":"web","do":"status","status":429,"headers":{"Retry-After":"2"}}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    grep -q 'next try in 2.0 s' "$T/err"
    rm -r "$T/o"
    faults '{"role":"web","do":"status","status":429,"date":3}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    grep -qE 'next try in [23].0 s' "$T/err"
    rm -r "$T/o"
    faults '{"role":"hub","match":"resolve/","do":"status","status":429,"headers":{"ratelimit":"\"api\";r=0;t=1"}}'
    get hf://google/pg/tokenizer.model
    whole tokenizer.model "$ROOT/hub/google/pg/tokenizer.model"
    grep -q 'next try in 2.0 s' "$T/err"
    rm -r "$T/o"
    faults '{"role":"web","do":"status","status":429,"headers":{"RateLimit":"limit=5000, remaining=0, reset=5000"}}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    faults '{"role":"web","do":"status","status":429,"headers":{"Retry-After":"7200"}}'
    get "$W/d/big.bin"
    fails 'the server asks to come back in 7200 s' big.bin
    faults '{"role":"web","do":"status","status":503,"times":99}'
    get --tries 2 "$W/d/big.bin"
    fails 'given up after 2 tries' big.bin
    [ "$(requests big | wc -l)" -eq 2 ]
    faults '{"role":"web","do":"reset"}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
}

@test "statuses that stay are not tried again: 401, 403, 404, 416, 451" {
    for s in 401 403 404 416 451; do
        faults "{\"role\":\"web\",\"do\":\"status\",\"status\":$s,\"body\":\"<html>no</html>\",\"ctype\":\"text/html\",\"times\":9}"
        get "$W/d/big.bin"
        fails "$s" big.bin
        [ "$(requests big | wc -l)" -eq 1 ]
        no_leftovers
    done
}

@test "statuses that are not the file's keep what has arrived; 404 does not" {
    for s in 400 407 451; do
        half
        faults "{\"role\":\"web\",\"do\":\"status\",\"status\":$s,\"times\":9}"
        get "$W/d/big.bin"
        fails "$s" big.bin
        [ "$(wc -c <"$T/o/big.bin.part")" -eq 150000 ]
        rm -r "$T/o"
    done
    half
    faults '{"role":"web","do":"status","status":404}'
    get "$W/d/big.bin"
    fails 404 big.bin
    no_leftovers
}

@test "a connection that drips is given up and tried again; nobody there is an error" {
    faults '{"role":"web","do":"drip"}'
    get --stall 1 "$W/d/big.bin"
    whole big.bin "$BIG"
    grep -q 'less than 512 bytes/s' "$T/err"
    rm -r "$T/o"
    get --tries 2 "http://127.0.0.1:1/x.bin"
    fails 'given up after 2 tries' x.bin
    no_leftovers
}

# --- TLS, proxies, processes

@test "TLS: an unknown authority is refused, SSL_CERT_FILE names it; https does not lead to http" {
    get "https://localhost:$TLS/d/big.bin"
    fails 'certificate cannot be verified' big.bin
    export SSL_CERT_FILE=$ROOT/ca.pem
    get "https://localhost:$TLS/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    faults '{"role":"tls","match":"big","do":"redirect","to":"http://127.0.0.1:{web}/d/big.bin"}'
    get "https://localhost:$TLS/d/big.bin"
    fails 'redirects from https to something else' big.bin
}

@test "a proxy named in the environment is used, and not for hosts that are excepted" {
    http_proxy=http://127.0.0.1:$PROXY get "$W/d/big.bin"
    whole big.bin "$BIG"
    requests '"role": "proxy"' | grep -q big.bin
    rm -r "$T/o"
    faults
    http_proxy=http://127.0.0.1:$PROXY no_proxy=127.0.0.1 get "$W/d/big.bin"
    whole big.bin "$BIG"
    [ -z "$(requests '"role": "proxy"')" ]
}

@test "two processes that want the same file: one transfer" {
    faults '{"role":"web","do":"rate","bytes_per_s":300000}'
    "$B/pg-fetch" -o "$T/o" "$W/d/big.bin" >"$T/out1" 2>"$T/err1" &
    one=$!
    sleep 0.3
    get "$W/d/big.bin"
    wait "$one"
    whole big.bin "$BIG"
    [ "$(requests big | wc -l)" -eq 1 ]
    cmp "$T/out" "$T/out1"
    grep -q 'another process is fetching' "$T/err"
}

@test "two processes: where the first gives up, an older file is not taken for its work, and its bytes are continued" {
    # The listing says 300000 bytes, and an older file is there: both processes fetch. The first one is stopped halfway.
    echo old >"$ROOT/storage/odd/two.bin"
    get gs://odd/two.bin
    whole two.bin "$ROOT/storage/odd/two.bin"
    cp "$BIG" "$ROOT/storage/odd/two.bin"
    faults '{"role":"storage","match":"alt=media","do":"rate","bytes_per_s":100000}'
    "$B/pg-fetch" -q -o "$T/o" gs://odd/two.bin >/dev/null 2>"$T/err1" &
    one=$!
    for ((i = 0; i < 100; i++)); do [ ! -s "$T/o/two.bin.part" ] || break; sleep 0.05; done
    (for ((i = 0; i < 200; i++)); do
        ! grep -q 'another process' "$T/err" || break
        sleep 0.05
    done; kill "$one") 3>&- &
    get gs://odd/two.bin
    wait "$one" || true
    whole two.bin "$ROOT/storage/odd/two.bin"
    grep -q 'another process is fetching' "$T/err"
    requests '"range": "bytes=' | grep -q two.bin

    # The first one's file is not what the second one demands.
    rm -r "$T/o"
    faults '{"role":"web","do":"rate","bytes_per_s":300000}'
    "$B/pg-fetch" -o "$T/o" "$W/d/big.bin" >/dev/null 2>"$T/err1" &
    one=$!
    for ((i = 0; i < 100; i++)); do [ ! -s "$T/o/big.bin.part" ] || break; sleep 0.05; done
    get --sha256 "$(printf '%064d' 0)" "$W/d/big.bin"
    wait "$one"
    fails 'its sha256 is'
    grep -q 'another process is fetching' "$T/err"
    rm "$ROOT/storage/odd/two.bin"
}

@test "kill -9 at random moments: every rerun goes on, the result is whole, nothing is left" {
    # PG_KILLS and PG_KILL_MB: 50 and 200 for the long run.
    kills=${PG_KILLS:-6} mb=${PG_KILL_MB:-20}
    head -c "${mb}M" /dev/urandom >"$ROOT/storage/odd/kill.bin"
    faults "{\"role\":\"storage\",\"match\":\"alt=media\",\"do\":\"rate\",\"bytes_per_s\":$((mb * 1000000 / 4)),\"times\":999}"
    most=0
    for ((i = 0; i < kills; i++)); do
        "$B/pg-fetch" -q -o "$T/o" gs://odd/kill.bin >/dev/null 2>"$T/err" &
        pid=$!
        sleep "$(printf 0.%02d $((RANDOM % 40)))"
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" || true
        if [ -f "$T/o/kill.bin" ]; then
            cmp "$T/o/kill.bin" "$ROOT/storage/odd/kill.bin"
            rm "$T/o/kill.bin" # finished before the signal: from the start again
            most=0
            continue
        fi
        now=$(stat -c %s "$T/o/kill.bin.part" 2>/dev/null || echo 0)
        [ "$now" -ge "$most" ] || { echo "lost bytes: $most, then $now"; false; }
        most=$now
    done
    get gs://odd/kill.bin
    whole kill.bin "$ROOT/storage/odd/kill.bin"
    requests '"range": "bytes=' | grep -q kill.bin
    rm "$ROOT/storage/odd/kill.bin"
}

@test "not enough disk is said before anything is fetched" {
    faults '{"role":"storage","match":"maxResults","do":"status","status":200,"body":"{\"items\":[{\"name\":\"huge.bin\",\"size\":\"9000000000000000\"}]}"}'
    get gs://odd/huge.bin
    fails 'not enough space'
    fails 'are needed'
    no_leftovers
}
