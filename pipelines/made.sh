# Sourced by scripts that do not do again what a folder has already: what it was made of is kept there, and something else is refused.
# shellcheck shell=bash

# made_of FILE AGAIN [WHAT VALUE]...: FILE keeps what VALUEs were; where they differ now, says so and ends. AGAIN: what to do then.
# What FILE does not know yet, or was told to forget, may be anything.
made_of() {
    local file=$1 again=$2 new why old=''
    shift 2
    new=$(while [ $# -gt 0 ]; do
        printf '%s\t%s\n' "$1" "$(tr '\n\t' '  ' <<<"$2" | sed 's/ *$//')"
        shift 2
    done)
    [ ! -s "$file" ] || old=$(awk -F'\t' 'NR == FNR { old[$1] = $0; next } { print $1 in old ? old[$1] : $0 }' "$file" - <<<"$new")
    if [ "${old:-$new}" = "$new" ]; then
        [ "$new" != "$(cat "$file" 2>/dev/null)" ] || return 0
        mkdir -p "$(dirname "$file")"
        why=$({ printf '%s\n' "$new" >"$file.new"; } 2>&1) || {
            rm -f "$file.new"
            echo "${0##*/}: cannot write '$file': ${why##*: }" >&2
            exit 1
        }
        mv "$file.new" "$file"
        return
    fi
    echo "${0##*/}: '$(dirname "$file")' was made with something else; $again" >&2
    diff <(printf '%s\n' "$old") <(printf '%s\n' "$new") | sed -n 's/^< /    then  /p; s/^> /    now   /p' >&2 || true
    exit 1
}

# forget FILE WHAT...: nothing was made of it yet, as after an attempt that failed.
forget() { [ ! -e "$1" ] || sed -i "$(printf '/^%s\t/d;' "${@:2}")" "$1"; }

# The files of a model or a source, by name, size and time: nothing is read, so a copy counts as another.
files_of() {
    if [ -d "$1" ]; then
        find -L "$1" -maxdepth 1 -type f -printf '%f %s %T@\n' | LC_ALL=C sort | cksum | tr ' ' -
    elif [ -e "$1" ]; then
        stat -L -c '%s-%Y' "$1"
    fi
}
