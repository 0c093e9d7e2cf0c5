#!/usr/bin/env bash
# What packaging/debian says agrees with pipelines/packages.txt, the Makefile and the tools' version.
set -u
bad=0
control=packaging/debian/control
packages() { # packages FIELD STANZA: the names, without versions and substitutions
    awk -v RS= -v stanza="$2" '$0 ~ "(^|\n)" stanza "(\n|$)"' "$control" |
        awk -v field="$1" '/^[^ ]/ { on = index($0, field ":") == 1; sub(/^[^:]*:/, "") } on' |
        tr ',' '\n' | sed 's/[(<].*//; s/ //g' | grep -vE '^$|[{}]|^debhelper-compat$' | LC_ALL=C sort
}

# build-essential, which every build has, brings the compiler, make and libc's headers.
want=$(awk '$1 == "build" || ($1 == "deb" && $2 ~ /^lib/) { print $2 }' pipelines/packages.txt | grep -vxE 'gcc|g[+][+]|make|libc6-dev' | LC_ALL=C sort -u)
have=$(packages Build-Depends 'Source: paligemma-tools')
if [ "$want" != "$have" ]; then
    echo "$control: Build-Depends are not those of pipelines/packages.txt:"
    diff <(echo "$want") <(echo "$have")
    bad=1
fi
# Whoever links libpg.a needs each library that it names; what only single tools link is not among these.
want=$(grep -vxE 'libarchive-dev|libcmocka-dev|libcrypt-dev|libexpat1-dev|libmicrohttpd-dev|debhelper|.*openmpi.*' <<<"$want")
have=$(packages Depends 'Package: libpaligemma-dev')
if [ "$want" != "$have" ]; then
    echo "$control: libpaligemma-dev does not depend on what libpg.a needs:"
    diff <(echo "$want") <(echo "$have")
    bad=1
fi
version=$(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' tools/tool.h)
log=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' packaging/debian/changelog)
[ "$version" = "$log" ] || { echo "packaging/debian/changelog: version '$log', tools/tool.h has '$version'"; bad=1; }
exit $bad
