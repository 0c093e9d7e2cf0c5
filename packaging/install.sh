#!/usr/bin/env bash
# Installs what make has built, or removes exactly what was installed. Usage: install.sh install|uninstall, called by make, which names
# the folders in the environment. Files and folders that were made are kept in DATADIR/pg/manifest: uninstall removes these alone, and
# installing over an earlier version removes those of its files that are no more.
set -euo pipefail
: "${prefix:?called by make}" "${bindir:?}" "${libdir:?}" "${libexecdir:?}" "${includedir:?}" "${datadir:?}" "${mandir:?}"
: "${pkgconfigdir:?}" "${completionsdir:?}" "${DESTDIR=}"
for f in "$prefix" "$bindir" "$libdir" "$libexecdir" "$includedir" "$datadir" "$mandir" "$pkgconfigdir" "$completionsdir"; do
    [[ $f == /* ]] || { echo "install: '$f' is not an absolute path" >&2; exit 2; }
done
share=$datadir/pg
manifest=$DESTDIR$share/manifest
made=$(mktemp) files=$(mktemp)
trap 'rm -f "$made" "$files"' EXIT

folder() { # folder PATH: with those above it; the new ones are noted
    [ -d "$DESTDIR$1" ] && return
    if [ -z "$1" ]; then
        mkdir -p "$DESTDIR" # the caller's, not noted
        return
    fi
    folder "${1%/*}"
    mkdir -m 755 "$DESTDIR$1"
    echo "$1" >>"$made"
}

put() { # put MODE SOURCE FOLDER [NAME]
    folder "$3"
    install -m "$1" "$2" "$DESTDIR$3/${4:-${2##*/}}"
    echo "$3/${4:-${2##*/}}" >>"$files"
}

link() { # link PATH FOLDER NAME: a relative link to PATH
    folder "$2"
    ln -sfrn "$DESTDIR$1" "$DESTDIR$2/$3"
    echo "$2/$3" >>"$files"
}

# Scripts find the tools of the tree that they lie in, also where that was staged or moved, else those that were installed, from any working
# directory; PG_BIN still goes first. Slurm runs copies, which lie in no tree.
placed() { # placed FILE FOLDER: as it is there, with the names of installed folders, to standard output
    # shellcheck disable=SC2016 # the script's
    local bin='$(dirname "$(readlink -f "$0")")/@tobin@:@bindir@'
    [[ $2 != */slurm ]] || bin=@bindir@
    way() { realpath -ms --relative-to="$1" "$2"; }
    # shellcheck disable=SC2016 # $PG_BIN is the script's
    sed -e 's|${PG_BIN:+$PG_BIN:}|${PG_BIN:-@bin@}:|' -e 's|^PG_BIN ?= .*|PG_BIN ?= $(or $(wildcard $(top)/@topbin@),@bindir@)|' \
        -e 's|^DEMO ?= .*|DEMO ?= pg-demo|' -e 's|^MAKE_DEMO ?= .*|MAKE_DEMO ?= pg-demo $(DEMO)|' "$1" |
        sed -e "s|@bin@|$bin|g" -e "s|@tobin@|$(way "$2" "$bindir")|g" -e "s|@topbin@|$(way "$share" "$bindir")|g" \
            -e "s|@toshare@|$(way "$bindir" "$share")|g" -e "s|@toprograms@|$(way "$bindir" "$libexecdir/pg")|g" \
            -e "s|@bindir@|$bindir|g" -e "s|@share@|$share|g" -e "s|@programs@|$libexecdir/pg|g" -e "s|@version@|$VERSION|g" \
            -e "s|@prefix@|$prefix|g" -e "s|@libdir@|$libdir|g" -e "s|@includedir@|$includedir|g" -e "s|@link@|$LINK|g"
}
put_placed() { # put_placed MODE SOURCE FOLDER
    local new
    new=$(mktemp)
    placed "$2" "$3" >"$new"
    put "$1" "$new" "$3" "${2##*/}"
    rm "$new"
}

put_all() {
    local f d
    for f in $TOOLS; do
        put 755 "$BUILD/$f" "$bindir"
        link "$share/pg.bash" "$completionsdir" "$f"
        link "$bindir/$f" "$libexecdir/pg" "$f" # beside data/, so that this folder serves data's scripts as a build folder does
    done
    # pg-train looks for it beside itself and here, wherever libdir is.
    if [ -n "${PLUGIN:-}" ]; then put 644 "$PLUGIN" "${bindir%/*}/lib/pg"; fi
    for f in $PROGRAMS; do put 755 "$f" "$libexecdir/pg/data"; done
    put_placed 755 packaging/pg-demo "$bindir"
    link "$share/pg.bash" "$completionsdir" pg-demo
    for f in man/*.[1-8]; do put 644 "$f" "$mandir/man${f##*.}"; done
    put 644 "$BUILD/libpg.a" "$libdir"
    for f in $HEADERS; do # common/ROOM/NAME.h
        d=${f%/*}
        put 644 "$f" "$includedir/pg/${d##*/}"
    done
    put 644 common/pg.h "$includedir/pg"
    put_placed 644 packaging/pg.pc "$pkgconfigdir"
    put 644 "$BUILD/pg.bash" "$share"
    find pipelines data/*.sh data/README.md data/nano -type f ! -name 'packages.*' | LC_ALL=C sort | while IFS= read -r f; do
        case $f in
        */made.sh | */usage.sh) put_placed 644 "$f" "$share/${f%/*}" ;; # the others source them
        *.sh) put_placed 755 "$f" "$share/${f%/*}" ;;
        *.mk) put_placed 644 "$f" "$share/${f%/*}" ;;
        *) put 644 "$f" "$share/${f%/*}" ;;
        esac
    done
}

remove() { # remove FILE: the paths it lists, files first, folders only where nothing else lies in them
    local path
    sed -n 's/^file //p' "$1" | while IFS= read -r path; do rm -f "$DESTDIR$path"; done
    sed -n 's/^folder //p' "$1" | LC_ALL=C sort -r | while IFS= read -r path; do
        if [ -d "$DESTDIR$path" ]; then rmdir --ignore-fail-on-non-empty "$DESTDIR$path"; fi
    done
}

case ${1:-} in
install)
    put_all
    # Folders that an earlier install has made, and its files that are no more.
    if [ -e "$manifest" ]; then
        sed -n 's/^folder //p' "$manifest" >>"$made"
        sed -n 's/^file //p' "$manifest" | LC_ALL=C sort | LC_ALL=C comm -13 <(LC_ALL=C sort "$files") - |
            while IFS= read -r path; do rm -f "$DESTDIR$path"; done
    fi
    { sed 's/^/file /' "$files"; sed 's/^/folder /' "$made"; } | LC_ALL=C sort -u >"$manifest"
    chmod 644 "$manifest"
    ;;
uninstall)
    [ -e "$manifest" ] || { echo "uninstall: nothing is installed there: no '$manifest'" >&2; exit 1; }
    cp "$manifest" "$made"
    rm "$manifest"
    remove "$made"
    ;;
*)
    echo 'usage: install.sh install|uninstall' >&2
    exit 2
    ;;
esac
