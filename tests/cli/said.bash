# Shared by mistakes.bats and silence.bats: where things lie, and what a command says.
# shellcheck shell=bash disable=SC2034,SC2154

place() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=$(cd "${PG_BUILD:-build}" && pwd)
    A=$B/tests/train/aux_trainset
    S=$B/tests/model/aux_stream
    G=tests/golden/model
    I=tests/golden/image
    M=data/nano
    T=$BATS_TEST_TMPDIR
}

# says STATUS TEXT COMMAND...: the status, and the text on standard error
says() {
    local want=$1 text=$2
    shift 2
    run --separate-stderr "$@"
    [ "$status" -eq "$want" ] || { echo "status $status: $stderr"; false; }
    [[ $stderr == *"$text"* ]] || { echo "$stderr"; false; }
}
