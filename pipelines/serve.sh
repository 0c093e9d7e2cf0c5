#!/usr/bin/env bash
# Serves a page that captions pictures with MODEL. What follows MODEL are options of pg-serve, such as -p 9000.
# Usage: serve.sh MODEL [pg-serve options]
# Environment: PREFIX (caption en), where the client has none; SIZE (the model's), PG_BIN
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 1 1 "${@:1:1}"
prompt_in_prefix
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build
export PATH model=$1
shift
export size=${SIZE:-$(pg-info "$model" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')}
[ -n "$size" ] || { echo "serve.sh: '$model' is no model" >&2; exit 1; }
pg-tokenize -q -m "$model" </dev/null >/dev/null 2>&1 || [ $? -eq 3 ] || { pg-tokenize -m "$model" </dev/null; exit 1; }
# shellcheck disable=SC2016 # expanded by the inner shell, each time that it starts
exec pg-serve --prefix "${PREFIX:-caption en}" "$@" -- sh -c 'pg-resize -s "$size" --drop-image | pg-tokenize -q -m "$model" | pg-infer -m "$model" --partial'
