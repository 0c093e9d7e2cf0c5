#!/usr/bin/env bash
# Checks against transformers, PEFT and torch, which `make check` does not need. They are installed from PyPI into a folder of their
# own (PG_INTEROP_VENV; several GB), unless PG_INTEROP_PYTHON names a Python that has them. Usage: tests/interop/run.sh BUILD
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build}
if [ -n "${PG_INTEROP_PYTHON:-}" ]; then
    python=$PG_INTEROP_PYTHON
else
    venv=${PG_INTEROP_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/pg-interop}
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'torch>=2.2' 'transformers>=4.52,<5' 'peft>=0.14' pillow sentencepiece protobuf msgpack msgpack-numpy scipy
    python=$venv/bin/python
fi
exec "$python" tests/interop/interop.py "$build"
