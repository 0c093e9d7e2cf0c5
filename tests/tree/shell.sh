#!/usr/bin/env bash
# Every shell script of the repository passes shellcheck.
set -u
mapfile -t files < <(grep -rlE '^#!/(usr/bin/env (bash|sh)|bin/(ba)?sh)' .ci pipelines packaging tests data --include='*' 2>/dev/null | grep -vE '\.(bats|npz|png|jpg|model)$')
[ ${#files[@]} -gt 0 ] || { echo 'no scripts found'; exit 1; }
shellcheck "${files[@]}"
