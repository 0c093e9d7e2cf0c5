#!/usr/bin/env bash
# Builds the Debian packages out of the source tarball, so of nothing that is not in it. Usage: deb.sh TARBALL VERSION OUT
# Needs dpkg-dev, debhelper and the packages of `make deps`.
set -euo pipefail
umask 022 # modes are part of the source package
tarball=${1:?usage: deb.sh TARBALL VERSION OUT} version=$2 out=$3
mkdir -p "$out"
rm -rf "${out:?}"/*
cp "$tarball" "$out/paligemma-tools_$version.orig.tar.gz"
tar -xzf "$tarball" -C "$out"
cd "$out/pg-$version"
cp -r packaging/debian debian
have=$(dpkg-parsechangelog -S Version)
[ "${have%-*}" = "$version" ] || { echo "deb.sh: packaging/debian/changelog has version '$have', the tools have '$version'" >&2; exit 1; }
# The options of a make that called this are not those of the package.
env -u MAKEFLAGS -u MFLAGS -u CC -u CXX -u CFLAGS -u CXXFLAGS dpkg-buildpackage -us -uc
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error,warning ../*.changes && echo "lintian: no errors, no warnings"
else
    echo 'no lintian here, so the packages are not checked with it'
fi
