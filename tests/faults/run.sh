#!/usr/bin/env bash
# What `make faults` and `make kills` run: each call of each tool fails once, and the surroundings are bad. Usage: run.sh [faults|kills]
# PG_BUILD (default build) is the folder of the built tools; `make check` runs samples of the same (tests/cli/faults.bats).
set -eu
cd "$(dirname "$0")/../.." || exit 1
export PG_BUILD=${PG_BUILD:-build} PYTHONDONTWRITEBYTECODE=1
python=$(tests/find-python msgpack) || { echo 'no python3-msgpack'; exit 1; }
case ${1:-faults} in
faults)
    "$python" tests/faults/faults.py --full
    "$python" tests/faults/faults.py --many --each 12
    "$python" tests/faults/serve.py --each 30
    "$python" tests/faults/surroundings.py --full
    ;;
kills) "$python" tests/faults/kills.py 30 ;;
*)
    echo "usage: run.sh [faults|kills]"
    exit 2
    ;;
esac
