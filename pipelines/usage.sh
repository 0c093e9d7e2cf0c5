# Sourced by scripts that users call, before anything else. -h or --help anywhere (before a --) prints the script's head comment, which is the
# one place where its usage stands; a first argument that looks like an option is a usage error.
# shellcheck shell=bash

# The head comment: how it is called, what it does, the rest.
head_comment() {
    awk '
        NR == 1 || /^#SBATCH/ { next }
        !/^#/ { exit }
        { sub(/^# ?/, "") }
        sub(/^Usage: /, "usage: ") { part = 1; usage = $0; next }
        part == 1 && /^ / { usage = usage "\n" $0; next }
        part { part = 2; rest = rest "\n" $0; next }
        { what = what "\n" $0 }
        END { print usage "\n" what (rest ? "\n" : "") rest }' "$0"
}

# usage [WHY]: the lines of how it is called, to standard error.
usage() {
    [ $# -eq 0 ] || echo "${0##*/}: $1" >&2
    head_comment | awk '
        /^$/ { exit }
        NR == 1 || $1 ~ /\.sh$/ { print match($0, /[^ ]   /) ? substr($0, 1, RSTART) : $0 }' >&2
    echo "Try '${0##*/} --help'." >&2
    exit 2
}

# operands MIN MAX [OPERAND]...: so many, and no option among them; - is standard input.
operands() {
    local o
    for o in "${@:3}"; do [[ $o != -?* ]] || usage "unknown option '$o'"; done
    if [ $(($# - 2)) -lt "$1" ] || [ $(($# - 2)) -gt "$2" ]; then usage; fi
}

# together "$@": from here on what ends this script ends all that it has started. The script begins once more below a process that sees to it.
together() { [ "${PG_TOGETHER:-}" = "$PPID" ] || exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/together.sh" "$0" "$@"; }

# cause STATUS...: of the programs of a pipeline the status of the first that failed by itself, as in `a | b || cause "${PIPESTATUS[@]}"`. Those
# before it have nobody who reads (141, SIGPIPE), those behind it get a stream that is cut (3), of which they say nothing (PG_QUIET_CUT).
# 4, some records carry errors, is no failure and counts last.
cause() {
    local status which=0
    for status; do
        case $status in
        0) ;;
        4) [ "$which" -ne 0 ] || which=4 ;;
        141) which=141 ;;
        *)
            # Bash does not always tell; a pipeline within a pipeline leaves it to that.
            [ "$status" -le 128 ] || [ "$BASH_SUBSHELL" -gt 0 ] || echo "${0##*/}: a program was ended by SIG$(kill -l "$status")" >&2
            return "$status"
            ;;
        esac
    done
    return "$which"
}
export PG_QUIET_CUT=1

# PREFIX is the prompt here, elsewhere where programs are installed.
prompt_in_prefix() {
    if [[ ${PREFIX:-} == /* ]] && [ -d "$PREFIX" ]; then
        echo "${0##*/}: PREFIX, the prompt, is the folder '$PREFIX' in the environment: unset PREFIX" >&2
        exit 2
    fi
}

for word; do
    case $word in
    -h | --help)
        head_comment
        exit
        ;;
    --) break ;;
    esac
done
unset word
operands 0 1 "${@:1:1}"
