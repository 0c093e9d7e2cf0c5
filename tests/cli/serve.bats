#!/usr/bin/env bats
# pg-serve: the clients are Python programs in tests/serve, of the standard library; the command that they use wants msgpack.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    export PG_BUILD=${PG_BUILD:-build} PYTHONDONTWRITEBYTECODE=1
    B=$(cd "$PG_BUILD" && pwd)
    T=$BATS_TEST_TMPDIR
}

# python MODULE: one that has the module
python() {
    local p
    for p in python3 /usr/bin/python3; do
        "$p" -c "import $1" 2>/dev/null && { echo "$p"; return; }
    done
    return 1
}

clients() { # clients FILE.CLASS
    local p
    p=$(python msgpack) || skip 'no python3-msgpack'
    cd tests/serve
    "$p" -m unittest "$1" 2>&1
}

@test "the API: captions, events, pages, refusals, headers, metrics, log" { clients test_api.Api; }
@test "the page gives the caption that the shell gives" { clients test_api.Nano; }
@test "a prefix that is not UTF-8 is refused before anything starts" {
    run timeout 5 "$B/pg-serve" -p 0 --prefix $'a\xe9' -- false
    [ "$status" -eq 2 ]
    [[ $output == *"--prefix 'a"*"': not valid UTF-8"* ]]
    run timeout 5 "$B/pg-serve" -p 0 --prefix $'a\nb' -- false
    [ "$status" -eq 2 ]
    [[ $output == *"--prefix 'a?b': control characters or several lines"* ]]
}
@test "an address that is a name is refused as one" {
    run timeout 5 "$B/pg-serve" -p 0 -b localhost -- false
    [ "$status" -eq 1 ]
    [[ $output == *"cannot listen on 'localhost': not an IPv4 or IPv6 address"* ]]
}

@test "a command that dies is started again; what it had is answered with 502" { clients test_command.Death; }
@test "a command that hangs is replaced" { clients test_command.Hang; }
@test "a command that loads for long is waited for" { clients test_command.Start; }
@test "a full queue: 503 and Retry-After" { clients test_command.Queue; }
@test "SIGHUP: the new command takes over, nothing is lost" { clients test_command.Reload; }
@test "SIGTERM: what has come in is answered first" { clients test_command.Stop; }
@test "slow clients are ended, waiting ones are not" { clients test_clients.Slow; }
@test "rude clients: half-closed, gone, oversized, a thousand malformed forms" { clients test_clients.Rude; }
@test "authorization: tokens, names, bad files, reload" { clients test_clients.Auth; }
@test "rates: each address has its own" { clients test_clients.Rate; }
@test "the system: read-only, socket activation, IPv6, a log that nobody reads" { clients test_clients.System; }
@test "load: many clients, nothing lost, memory flat" { clients test_load.Load; }
@test "the page in a browser" {
    [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] || skip 'no chromium and chromium-driver'
    python selenium >/dev/null || skip 'no python3-selenium'
    clients test_browser
}

@test "serve.sh: a model and options; usage is status 2, no model 1" {
    run -2 pipelines/serve.sh
    PG_BIN=$B run -1 pipelines/serve.sh "$T/none"
    [[ $output == *"is no model"* ]]
    # A model without a tokenizer: said at once. What ends each time before it has begun is given up.
    mkdir "$T/bare"
    cp data/nano/model.npz "$T/bare/"
    PG_BIN=$B run -1 timeout 60 pipelines/serve.sh "$T/bare" -p 0
    [[ $output == "pg-tokenize: no tokenizer.model in '$T/bare'"* && $output != *$'\n'* ]] || { echo "$output"; false; }
    run -1 timeout 60 "$B/pg-serve" -p 0 -- sh -c 'echo no model >&2; exit 1'
    [[ $output == *"no model"*"pg-serve: given up"* ]] || { echo "$output"; false; }
    PG_BIN=$B PREFIX='caption en' pipelines/serve.sh data/nano -p 0 >"$T/log" 2>"$T/err" &
    local pid=$! i port
    for ((i = 0; i < 200; i++)); do
        port=$(sed -n 's|.*listening on http://127.0.0.1:\([0-9]*\)/.*|\1|p' "$T/err")
        [ -z "$port" ] || break
        sleep 0.05
    done
    python3 - "$port" tests/golden/image/png-rgb8.png >"$T/answer" <<'P'
import sys, urllib.request
r = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/caption", open(sys.argv[2], "rb").read(), {"Content-Type": "image/png"})
print(urllib.request.urlopen(r, timeout=60).read().decode())
P
    kill "$pid"
    wait "$pid"
    cat "$T/answer"
    grep -q '"caption":"[a-z]' "$T/answer"
    grep -q '"status":200' "$T/log"
}
