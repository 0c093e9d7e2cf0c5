#!/usr/bin/env bash
# Writes the source as a tarball, the same bytes for the same files: sorted, with the time of the last commit, without owners.
# Usage: dist.sh FILE.tar.gz     The folder in it is FILE. Without git all files are taken but what make builds.
set -euo pipefail
out=${1:?usage: dist.sh FILE.tar.gz}
name=$(basename "$out" .tar.gz)
cd "$(dirname "$0")/.."
if [ -e .git ] && command -v git >/dev/null; then
    list() { git ls-files -z; }
    time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
else
    list() { find . -type f ! -path './.git/*' ! -path './build*' ! -path './debian/*' ! -path './.pc/*' -printf '%P\0'; }
    time=${SOURCE_DATE_EPOCH:-$(stat -c %Y Makefile)}
fi
mkdir -p "$(dirname "$out")"
list | LC_ALL=C sort -z |
    tar --create --no-recursion --format=gnu --mtime="@$time" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX --transform="s,^,$name/," --null --files-from=- | gzip -9n >"$out.new"
mv "$out.new" "$out"
