#!/usr/bin/env bash
# Prints completion for bash, made from the tools' own option tables. Usage: completion.sh PROGRAM...
# A value's name says what completes it: see files_of below; f32|bf16 are all there are. Operands are those of the usage lines.
set -euo pipefail
[ $# -gt 0 ] || { echo 'usage: completion.sh PROGRAM...' >&2; exit 2; }

echo '# Completion of pg'\''s tools for bash, made by packaging/completion.sh.'
echo 'declare -gA _pg_options _pg_values _pg_operands'
for program; do
    tool=${program##*/}
    table=$("$program" --list-options)
    # `-m, --model MODEL`: both names, each with its value.
    awk -v tool="$tool" '{
        n = split($0, part, ", ")
        split(part[n], long, " ")
        names = names " " long[1] (n > 1 ? " " part[1] : "")
        if (long[2] != "") {
            print "_pg_values[\"" tool " " long[1] "\"]=\"" long[2] "\""
            if (n > 1) print "_pg_values[\"" tool " " part[1] "\"]=\"" long[2] "\""
        }
    } END { print "_pg_options[" tool "]=\"" substr(names, 2) "\"" }' <<<"$table"
    # What is left of the usage lines without options, their values and redirections.
    "$program" --help | sed -nE "s/^(usage:|  *) *$tool //p" | sed -E 's/[<>].*//; s/--? *[a-z][a-z-]* [A-Z|a-z.]+//g; s/\[options\]|OPTION//g' |
        awk -v tool="$tool" '/^[^a-z]*$/ || FNR == 1 { n = split($0, word, /[^A-Za-z.]+/)
            for (i = 1; i <= n; i++) if (word[i] ~ /^[A-Z]+(\.[a-z]+)?[.]*$/) { sub(/\.\.\.$/, "", word[i]); all = all " " word[i] } }
            END { print "_pg_operands[" tool "]=\"" substr(all, 2) "\"" }'
done
cat <<'functions'

# The endings of the files that a value's name stands for; folders are offered always.
_pg_endings() {
    case $1 in
    MODEL | SRC | BASE) echo 'npz|safetensors|model' ;;
    OUT | DST) echo 'npz|safetensors' ;;
    STREAM.pgs) echo 'pgs' ;;
    STREAM | A | B) echo 'pgs|jsonl|json' ;;
    SOURCE) echo 'jsonl|json|tar|pgs|png|jpg|jpeg|PNG|JPG|JPEG' ;;
    FILE.*) echo "${1#FILE.}" ;;
    FILE) echo '*' ;;
    DIR | ADAPTER) echo '' ;;
    *) return 1 ;;
    esac
}

_pg_files() { # _pg_files WORD ENDINGS: folders, and files with one of the endings
    local IFS=$'\n' path
    compopt -o filenames 2>/dev/null
    for path in $(compgen -f -- "$1"); do
        # shellcheck disable=SC2053 # a pattern
        if [[ -d ${path/#\~/$HOME} || -n $2 && ( $2 == '*' || ${path##*.} == @($2) ) ]]; then COMPREPLY+=("$path"); fi
    done
}

_pg_value() { # _pg_value WORD NAME...: what may stand where the usage has NAME
    local word=$1 name ending all='' choice IFS=' '
    shift
    for name; do
        if [[ $name == COMMAND ]]; then
            mapfile -t COMPREPLY < <(compgen -c -- "$word")
        elif [[ $name == *'|'* ]]; then
            choice=${name//|/ }
            # Capitals stand for something to be written, not for themselves.
            mapfile -t COMPREPLY < <(compgen -W "${choice//[A-Z]/}" -- "$word")
        elif ending=$(_pg_endings "$name"); then
            all+="${all:+${ending:+|}}$ending"
            [[ $all == *'*'* ]] && all='*'
            files=1
        fi
    done
    [[ -z ${files-} ]] || _pg_files "$word" "$all"
}

_pg() {
    local tool=${COMP_WORDS[0]##*/} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} value files='' i IFS=$' \t\n'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        if [[ ${_pg_operands[$tool]-} == COMMAND ]] && declare -F _command_offset >/dev/null; then
            _command_offset $((i + 1))
        else
            # shellcheck disable=SC2086 # several names
            _pg_value "$word" ${_pg_operands[$tool]-}
        fi
        return
    done
    # --name=value arrives as three words.
    if [[ $word == '=' ]]; then word=''; fi
    if [[ $before == '=' ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi
    value=${_pg_values["$tool $before"]-}
    if [[ -n $value ]]; then
        _pg_value "$word" "$value"
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${_pg_options[$tool]-}" -- "$word")
    elif [[ ${_pg_operands[$tool]-} != COMMAND ]]; then
        # shellcheck disable=SC2086 # several names
        _pg_value "$word" ${_pg_operands[$tool]-}
    fi
}
functions
printf 'complete -F _pg'
printf ' %s' "${@##*/}"
echo
