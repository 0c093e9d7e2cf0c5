#!/usr/bin/env bash
# The built tools are position independent, relocated before they run, with a stack that is guarded and holds no code. Usage: hardening.sh BUILD
set -u
build=${1:?usage: hardening.sh BUILD}
bad=0
say() { echo "$1: $2" && bad=1; }
for t in tools/pg-*.c; do
    p=$build/$(basename "$t" .c)
    [ -x "$p" ] || { say "$p" 'not built'; continue; }
    headers=$(readelf -hlW "$p") dynamic=$(readelf -dW "$p") symbols=$(readelf --dyn-syms -W "$p")
    grep -qE '^ *Type: *DYN' <<<"$headers" || say "$p" 'not position independent'
    grep -q GNU_RELRO <<<"$headers" || say "$p" 'no RELRO'
    grep -qE 'BIND_NOW|Flags:.* NOW' <<<"$dynamic" || say "$p" 'not bound before it runs (BIND_NOW)'
    grep -qE 'GNU_STACK.* RW ' <<<"$headers" || say "$p" 'its stack may hold code'
    grep -q __stack_chk_fail <<<"$symbols" || say "$p" 'no stack protector'
    [ -n "${PG_NO_FORTIFY:-}" ] || grep -qE '__[a-z]+_chk' <<<"$(grep -v __stack_chk <<<"$symbols")" || say "$p" 'no call is fortified (PG_NO_FORTIFY=1 for a build without optimisation)'
    ! grep -qE 'RPATH|RUNPATH' <<<"$dynamic" || say "$p" 'names a folder to load libraries from'
done
exit $bad
