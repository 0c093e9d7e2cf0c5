#!/usr/bin/env bash
# Installs the Debian packages of the given groups that are missing, after saying which and why.
# Usage: packages.sh [--list] GROUP...      groups: see packages.txt; --list prints all of theirs instead
# Environment: PG_NO_INSTALL (1: list what is missing and fail)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
list=
if [ "${1:-}" = --list ]; then
    list=1
    shift
fi
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 1 100 "$@"
# One question for all names takes a tenth of the time of one for each.
mapfile -t names < <(grep -v '^#' "$here/packages.txt" | awk '{ print $2 }' | sort -u)
installed=" $(dpkg-query -W -f '${Package} ${Status}\n' "${names[@]}" 2>/dev/null | sed -n 's/ [a-z]* ok installed$//p' | tr '\n' ' ') "
missing=()
while read -r group name why; do
    case " $* " in *" $group "*) ;; *) continue ;; esac
    if [ -n "$list" ]; then
        printf '%-24s %s\n' "$name" "$why"
    elif [[ $installed != *" $name "* ]]; then
        case " ${missing[*]:-} " in *" $name "*) ;; *)
            [ ${#missing[@]} -gt 0 ] || echo 'Debian packages that are missing:' >&2
            missing+=("$name")
            printf '  %-24s %s\n' "$name" "$why" >&2
            ;;
        esac
    fi
done < <(grep -v '^#' "$here/packages.txt")
[ ${#missing[@]} -gt 0 ] || exit 0
if [ -n "${PG_NO_INSTALL:-}" ]; then
    echo "PG_NO_INSTALL is set, so nothing is installed. Do it with: apt-get install ${missing[*]}" >&2
    exit 1
fi
command -v apt-get >/dev/null || { echo 'no apt-get here: install them by hand' >&2; exit 1; }
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "not root, and no sudo: run apt-get install ${missing[*]}" >&2; exit 1; }
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
echo 'Installing them.' >&2
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
