#!/usr/bin/env bash
# clang-tidy, cppcheck and gcc's analyzer over all C sources; nothing is let pass. Usage: lint.sh [tidy|cppcheck|analyzer]... (all of them).
# CPPFLAGS: where headers are. Checks that are left out stand with their reason in .clang-tidy and below; a place that a tool is wrong
# about says so in the source, in the tool's own words (NOLINT, cppcheck-suppress) with the reason beside it.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- tidy cppcheck analyzer
read -ra flags <<<"-std=c11 -Icommon -Itools -Itests/fuzz -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE ${CPPFLAGS:-}"
jobs=$(nproc)
# Files of one instruction set are left out: loops of intrinsics without pointers of others' making, which the tests of kernels hold against the
# scalar definitions, also under the sanitizers.
mapfile -t sources < <(find common tools tests/fuzz -name '*.c' ! -name '*_avx2.c' ! -name '*_avx512.c' ! -name '*_bf16.c' ! -name '*_vnni.c' ! -name '*_neon.c' | sort)
if ! gcc "${flags[@]}" -include mpi.h -fsyntax-only -x c /dev/null 2>/dev/null; then
    echo "no mpi.h here: tools/mpi_link.c is left out"
    for i in "${!sources[@]}"; do [ "${sources[i]}" != tools/mpi_link.c ] || unset "sources[i]"; done
fi
bad=0

# each COMMAND...: runs it for every source, some at a time; what it says is shown.
each() {
    printf '%s\0' "${sources[@]}" | xargs -0 -P "$jobs" -n 4 "$@" || bad=1
}

tidy_all() {
    # shellcheck disable=SC2016 # the inner shell's
    each bash -c 'clang-tidy --quiet "${@:2}" -- $1 2> >(grep -vE "^[0-9]+ warnings? generated|^Suppressed|^Use -header" >&2)' tidy "${flags[*]}"
}

# comparePointers: the ends of files that become part of a program (.incbin) are symbols of their own.
cppcheck_all() {
    local own=() f
    for f in "${flags[@]:1}"; do case $f in -isystem*|/*) ;; *) own+=("$f") ;; esac done # mpi.h is nothing to it
    cppcheck -j "$jobs" --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --quiet \
        --suppress=comparePointers "--suppress=*:*/blis.h" --library=tests/lint.cfg -D__linux__=1 "${own[@]}" "${sources[@]}" || bad=1
}

# PG_ANALYZER: with it common/base/err.h tells what one file does not show. too-complex is no finding: a function whose states are too many.
analyzer_all() {
    # shellcheck disable=SC2016
    each bash -c 'for f in "${@:2}"; do gcc $1 -DPG_ANALYZER -O1 -fanalyzer -Werror -Wno-analyzer-too-complex -c "$f" -o /dev/null || bad=1; done; exit ${bad:-0}' \
        analyzer "${flags[*]}"
}

for part in "$@"; do
    case $part in
    tidy) tidy_all ;;
    cppcheck) cppcheck_all ;;
    analyzer) analyzer_all ;;
    *) echo "lint.sh: no part '$part'" >&2 && exit 2 ;;
    esac
    echo "$part: $([ $bad = 0 ] && echo clean || echo findings)"
done
exit $bad
