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
