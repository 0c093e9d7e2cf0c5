# shellcheck shell=bash
# Sourced by tests that need the servers of servers.py: starts them with files to serve, scripts faults, reads their log, checks what
# pg-fetch makes of it.
# shellcheck disable=SC2034,SC2154 # variables are for the tests, or theirs

# start_servers ROOT [options of servers.py]: sets KAGGLE, STORAGE, HUB, WEB, TLS, PROXY (ports) and the endpoints' variables.
start_servers() {
    local root=$1 i
    shift
    python3 tests/net/servers.py "$root" "$@" >"$root/log" 2>&1 3>&- &
    SERVERS=$!
    for ((i = 0; i < 100; i++)); do
        [ -f "$root/ports" ] && break
        sleep 0.1
    done
    [ -f "$root/ports" ] || { cat "$root/log"; return 1; }
    read_ports "$root"
}

read_ports() {
    local root=$1 name port
    while IFS='=' read -r name port; do
        declare -g "${name^^}=$port"
    done <"$root/ports"
    export KAGGLE_API_ENDPOINT=http://127.0.0.1:$KAGGLE STORAGE_EMULATOR_HOST=http://127.0.0.1:$STORAGE HF_ENDPOINT=http://127.0.0.1:$HUB
}

# An environment that knows no account, and caches of its own.
clean_environment() {
    unset KAGGLE_API_TOKEN KAGGLE_USERNAME KAGGLE_KEY KAGGLE_CONFIG_DIR HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HOME HF_HUB_CACHE \
        HF_HUB_OFFLINE TRANSFORMERS_OFFLINE KAGGLEHUB_CACHE GOOGLE_OAUTH_ACCESS_TOKEN XDG_CACHE_HOME XDG_CONFIG_HOME SSL_CERT_FILE SSL_CERT_DIR \
        http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY HF_HUB_DISABLE_IMPLICIT_TOKEN HUGGINGFACE_HUB_CACHE
    export HOME=$1
    mkdir -p "$HOME"
}

# faults JSON...: replaces the script of faults, empties the log
faults() {
    local IFS=,
    curl -sf --noproxy '*' -o /dev/null -d "[$*]" "http://127.0.0.1:$STORAGE/control"
}

# requests [PATTERN]: the log, one JSON object a line
requests() { curl -sf --noproxy '*' "http://127.0.0.1:$STORAGE/control" | { grep -e "${1:-.}" || true; }; }

# test_ca DIR HOST: a certificate authority and a certificate for HOST, made now
test_ca() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=test authority' -keyout "$1/ca.key" -out "$1/ca.pem" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$1/tls.key" -out "$1/tls.csr" 2>/dev/null
    openssl x509 -req -in "$1/tls.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -days 2 -out "$1/tls.pem" \
        -extfile <(printf 'subjectAltName=DNS:%s,IP:127.0.0.1\n' "$2") 2>/dev/null
}

# serve_files ROOT: what the tests fetch
serve_files() {
    local root=$1 g=tests/golden/image i j
    local m=$root/kaggle/google/paligemma/jax/paligemma-3b-pt-224/1 s=$root/storage/longcap100 h=$root/hub
    mkdir -p "$m" "$s" "$root/storage/closed" "$root/storage/odd/sub" "$h/google/pg/x" "$h/gated/pg" "$root/web/d" "$root/kaggle/public/model/jax/many/3"
    # f16 first: the notebook's choice
    head -c 300000 /dev/urandom >"$m/paligemma-3b-pt-224.f16.npz"
    head -c 150 /dev/urandom >"$m/paligemma-3b-pt-224.b16.npz"
    head -c 600 /dev/urandom >"$m/paligemma-3b-pt-224.npz"
    for i in $(seq 10 70); do echo "$i" >"$root/kaggle/public/model/jax/many/3/$i.txt"; done
    i=0
    for j in "$g"/jpg-4*; do
        [ $((i += 1)) -le 8 ] || break
        cp "$j" "$s/$i.jpeg"
        echo "{\"image\": \"$i.jpeg\", \"prefix\": \"\", \"suffix\": \"Picture $i.\"}"
    done >"$s/data_train90.jsonl"
    echo '{"image": "8.jpeg", "suffix": "The last."}' >"$s/data_val10.jsonl"
    printf foo >"$root/storage/odd/a b#c%d?é.txt"
    printf bar >"$root/storage/odd/sub/x.txt"
    printf '../up.txt\n/abs.txt\nfolder/\na//b\nback\\slash\n' >"$root/storage/odd.names"
    for i in config.json preprocessor_config.json README.md generation_config.json; do echo "{\"$i\": 1}" >"$h/google/pg/$i"; done
    for i in model-00001-of-00002.safetensors model-00002-of-00002.safetensors model-00009-of-00009.safetensors tokenizer.model x/model.safetensors; do
        head -c 100000 /dev/urandom >"$h/google/pg/$i"
    done
    echo '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}' >"$h/google/pg/model.safetensors.index.json"
    echo '{"image": "cow.jpg", "suffix": "a cow"}' >"$h/google/pg/train.jsonl"
    cp "$g/jpg-420.jpg" "$h/google/pg/cow.jpg"
    head -c 2000 /dev/urandom >"$h/gated/pg/model.safetensors"
    mkdir -p "$h/datasets/o/set/img" "$h/datasets/gated/set"
    cp "$g/jpg-420.jpg" "$h/datasets/o/set/img/1.jpg"
    cp "$g/png-rgb8-1x1.png" "$h/datasets/o/set/img/2.png"
    printf '{"image": "img/%s", "suffix": "%s"}\n' 1.jpg one 2.png two >"$h/datasets/o/set/train.jsonl"
    head -c 100 /dev/urandom >"$h/datasets/o/set/features.npz"
    echo '{"images": [{"id": 7, "file_name": "2.png"}], "annotations": [{"image_id": 7, "caption": "a pixel"}]}' >"$h/datasets/o/set/captions.json"
    (cd "$h/datasets/o/set/img" && tar -cf ../shard-0.tar 1.jpg)
    cp "$h/datasets/o/set/train.jsonl" "$h/datasets/gated/set/"
    head -c 300000 /dev/urandom >"$root/web/d/big.bin"
    cp "$g/png-rgb8-1x1.png" "$root/web/d/p q.png"
    : >"$root/web/empty.bin"
    echo '{"image": "p q.png", "suffix": "a pixel"}' >"$root/web/d/data.jsonl"
}

# For setup_file, setup, teardown_file and teardown of a .bats file
net_setup_file() {
    export ROOT=$BATS_FILE_TMPDIR/root
    serve_files "$ROOT"
    test_ca "$ROOT" localhost
    start_servers "$ROOT" --tls "$ROOT/tls.pem" "$ROOT/tls.key"
    export SERVERS
}

net_setup() {
    B=$PWD/${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    clean_environment "$T/home"
    read_ports "$ROOT"
    rm -f "$ROOT/violations" "$ROOT/signature" "$ROOT/page"
    faults
    M=kaggle://google/paligemma/jax/paligemma-3b-pt-224
    F16=$ROOT/kaggle/google/paligemma/jax/paligemma-3b-pt-224/1/paligemma-3b-pt-224.f16.npz
    W=http://127.0.0.1:$WEB
    BIG=$ROOT/web/d/big.bin
}

net_teardown() {
    # Whatever a test is about: no credentials at storage, CDN or a foreign server.
    [ ! -e "$ROOT/violations" ] || { cat "$ROOT/violations"; false; }
}

# get ARGUMENTS...: downloads into $T/o; the status in $rc, messages in $T/err, paths in $T/out
get() {
    rc=0
    "$B/pg-fetch" -o "$T/o" "$@" >"$T/out" 2>"$T/err" || rc=$?
}

no_leftovers() { [ -z "$(find "$T/o" -name '*.part*' 2>/dev/null)" ] || { find "$T/o"; cat "$T/err"; false; }; }

# whole NAME ORIGINAL: it is there, it is right, nothing else is left
whole() {
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    cmp "$T/o/$1" "$2"
    no_leftovers
}

# fails TEXT [NAME]: status 1, the message holds TEXT, and there is no such file
fails() {
    [ "$rc" -eq 1 ] || { echo "status $rc"; cat "$T/err"; false; }
    grep -qF -- "$1" "$T/err" || { cat "$T/err"; false; }
    [ -z "${2:-}" ] || [ ! -e "$T/o/$2" ]
}

# absent [grep options] PATTERN FILE...
absent() { if grep "$@"; then false; fi; }

# Half of big.bin on the disk, as an interrupted run leaves it.
half() {
    faults '{"role":"web","match":"big","do":"cut","at":150000}'
    get --tries 1 "$W/d/big.bin"
    fails 'after 150000' big.bin
    [ "$(wc -c <"$T/o/big.bin.part")" -eq 150000 ]
}

ranges() { requests '"path": "/d/big' | grep -o '"range": [^,]*' | tr '\n' ' '; }

# stream ARGUMENTS...: as JSON lines in $T/lines
stream() {
    rc=0
    "$B/pg-fetch" "$@" >"$T/pgs" 2>"$T/err" || rc=$?
    "$B/pg-render" -f jsonl <"$T/pgs" >"$T/lines" 2>"$T/render" || [ $? -eq 4 ] || { cat "$T/err" "$T/render"; false; }
}
