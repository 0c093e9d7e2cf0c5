#!/usr/bin/env bash
# Shows that the build is reproducible: source tarball and Debian packages made twice, in folders of other names, one after the other, with
# another time zone, language, umask and times of files, are the same bytes; so are the executables before they are stripped.
# Usage: reproducible.sh [WORK]     Not with ccache, which would make the second build out of the first.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' tools/tool.h)
made=
[ $# -gt 0 ] || made=$(mktemp -d)
work=${1:-$made}
trap '[ -z "$made" ] || rm -rf "$made"' EXIT
export CCACHE_DISABLE=1
first=$work/a second=$work/another-place/of-another-length
mkdir -p "$first" "$second"

packaging/dist.sh "$first/pg-$version.tar.gz"
(TZ=Asia/Kolkata LC_ALL=C packaging/dist.sh "$second/pg-$version.tar.gz")
echo 'first build'
TZ=UTC LC_ALL=C.UTF-8 packaging/deb.sh "$first/pg-$version.tar.gz" "$version" "$first/deb" >"$first/log" 2>&1 || { tail "$first/log"; exit 1; }
echo 'second build'
(umask 027 && TZ=Asia/Kolkata LC_ALL=C HOME=/nonexistent packaging/deb.sh "$second/pg-$version.tar.gz" "$version" "$second/deb") >"$second/log" 2>&1 ||
    { tail "$second/log"; exit 1; }

bad=0 n=0
same() { # same FILE: below both folders
    n=$((n + 1))
    if cmp -s "$first/$1" "$second/$1"; then
        printf 'same  %s  %s\n' "$(sha256sum "$first/$1" | cut -c1-16)" "$1"
    else
        echo "DIFFERENT  $1"
        bad=1
    fi
}
cd "$first"
for f in ./*.tar.gz deb/*.deb deb/*.dsc deb/*.tar.?z "deb/pg-$version"/build/pg-*[a-z] "deb/pg-$version"/build/data/*; do
    case $f in *.[do] | *.new) ;; *) [ ! -f "$f" ] || same "$f" ;; esac
done
[ "$n" -gt 15 ] || { echo "only $n files to compare"; exit 1; }
exit $bad
