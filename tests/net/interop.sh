#!/usr/bin/env bash
# The official Python clients (huggingface_hub, kagglehub, google-cloud-storage) and pg-fetch against the same servers; then pg-fetch
# out of the caches that they leave. Installs the clients into a folder of its own. Usage: interop.sh BUILD
set -eu
cd "$(dirname "$0")/../.."
build=$(cd "${1:-build}" && pwd)
venv=$build/interop
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/pip" install -q huggingface_hub kagglehub google-cloud-storage
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(huggingface.hub|kagglehub|google-cloud-storage) '
# shellcheck disable=SC1091 # checked by itself
. tests/net/net.sh
T=$(mktemp -d)
SERVERS=
trap '[ -z "$SERVERS" ] || kill "$SERVERS"; rm -rf "$T"' EXIT
clean_environment "$T/home"
serve_files "$T/root"
start_servers "$T/root" --kaggle-port 7777 # where kagglehub looks for a test server
mkdir "$T/out"
env KAGGLE_API_ENVIRONMENT=TEST KAGGLE_USERNAME=alice KAGGLE_KEY=secret HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_PROGRESS_BARS=1 \
    "$venv/bin/python" tests/net/interop.py "$T/root" "$T/out" >"$T/clients" 2>&1 || { tail -n 30 "$T/clients"; exit 1; }
grep -a ' ok$' "$T/clients"
"$build/pg-fetch" -v -o "$T/cached" hf://google/pg kaggle://google/paligemma/jax/paligemma-3b-pt-224 >"$T/paths" 2>"$T/said"
[ "$(grep -c 'was in the cache' "$T/said")" -eq 7 ] || { cat "$T/said"; exit 1; }
echo "pg-fetch takes $(wc -l <"$T/paths") files from the clients' caches"
[ ! -e "$T/root/violations" ] || { cat "$T/root/violations"; exit 1; }
