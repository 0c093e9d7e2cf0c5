#!/usr/bin/env bash
# Builds everything for 64-bit ARM on another machine and runs it there through qemu: that it works, not how fast.
# Usage: tests/arm64.sh [unit|tree|pages|BATS]...     BATS: names out of tests/cli, such as infer. Default: tree unit pages and the main ones.
# Wants packages.txt's group arm64 (make arm64 installs it), and the kernel to hand ARM's programs to qemu, which qemu-user-static sees to.
# ARM64_CC is another cross compiler, such as "ccache aarch64-linux-gnu-gcc".
# build-arm64/ is the build, build-arm64-root/ Debian's libraries for ARM, unpacked and never installed.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/build-arm64-root lib=$PWD/build-arm64-root/usr/lib/aarch64-linux-gnu
compiler=${ARM64_CC:-aarch64-linux-gnu-gcc}
export QEMU_LD_PREFIX=$root PG_BUILD=build-arm64 PG_EMULATED=1

libraries() {
    local names link
    names=$(awk '$1 == "build" && $2 !~ /^(gcc|g[+][+]|make)$/ { print $2 }' pipelines/packages.txt | paste -sd,)
    echo "unpacking Debian's libraries for ARM into ${root##*/}"
    rm -rf "$root.new"
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include="$names,libcmocka-dev,libopenmpi-dev,libstdc++-12-dev" bookworm "$root.new"
    # Links to files from the top would lead to this machine's.
    find "$root.new/usr/lib/aarch64-linux-gnu" -type l -lname '/*' | while read -r link; do ln -sfn "$root$(readlink "$link")" "$link"; done
    mv "$root.new" "$root"
}

build() {
    PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root make -s -j"$(nproc)" BUILD=$PG_BUILD \
        CC="$compiler --sysroot=$root" CXX="${compiler/%gcc/g++} --sysroot=$root" AR=aarch64-linux-gnu-ar WERROR=-Werror \
        BLIS_DIR="$lib/blis-serial" BLIS_CFLAGS="-I$root/usr/include/aarch64-linux-gnu/blis-serial" everything
}

# The kernels of ARM have pages of 4, 16 or 64 KiB.
pages() {
    local t bad=0
    for t in base/test_pool base/test_sweep kernels/test_kernels weights/test_broken weights/test_convert weights/test_layouts model/test_forward; do
        QEMU_PAGESIZE=65536 $PG_BUILD/tests/$t >"$PG_BUILD/pages.log" 2>&1 || { cat "$PG_BUILD/pages.log"; echo "$t fails with pages of 64 KiB"; bad=1; }
    done
    return $bad
}

[ $# -gt 0 ] || set -- tree unit pages pipeline infer train stream resize tokenize convert info
[ -d "$root" ] || libraries
build
$PG_BUILD/pg-info >/dev/null || { echo "tests/arm64.sh: this kernel does not run ARM's programs: is binfmt_misc mounted, and qemu-aarch64 in it?" >&2; exit 1; }
$PG_BUILD/pg-info | grep kernels
bad=0
for part; do
    case $part in
    unit) tests/run.sh unit || bad=1 ;;
    tree) for t in 'symbols.sh build-arm64/libpg.a' 'linkage.sh build-arm64' 'hardening.sh build-arm64'; do read -ra c <<<"$t"; "tests/tree/${c[0]}" "${c[1]}" || bad=1; done ;;
    pages) pages || bad=1 ;;
    *) bats "tests/cli/$part.bats" || bad=1 ;;
    esac
done
exit $bad
