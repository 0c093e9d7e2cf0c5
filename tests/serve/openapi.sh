#!/usr/bin/env bash
# schemathesis, which makes requests from /openapi.json, against pg-serve with the model in data/nano. Installs it into a folder of its own.
# Left out: its two checks that want each body of the schema's type to be taken, for no schema can say that bytes are a picture.
# Usage: openapi.sh BUILD
set -eu
cd "$(dirname "$0")/../.."
build=$(cd "${1:-build}" && pwd)
venv=$build/openapi
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q schemathesis
T=$(mktemp -d)
PG_BIN=$build pipelines/serve.sh data/nano -p 0 >"$T/log" 2>"$T/said" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$T"' EXIT
for ((i = 0; i < 200; i++)); do
    url=$(sed -n 's|.*listening on \(http://.*\)/$|\1|p' "$T/said")
    [ -z "$url" ] || break
    sleep 0.05
done
cd "$T"
"$venv/bin/schemathesis" run "$url/openapi.json" --max-examples "${EXAMPLES:-200}" --checks all --continue-on-failure \
    --exclude-checks positive_data_acceptance,negative_data_rejection
if grep -v listening "$T/said"; then exit 1; fi # neither a message nor a restart
