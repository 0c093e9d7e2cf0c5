# shellcheck shell=bash
# Sourced by tests that need the servers of servers.py: starts them with files to serve, scripts faults, reads their log.

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
