#!/usr/bin/env bash
# Installs the Debian package into a fresh Debian without compilers, uses it there as an ordinary user, removes it again and looks for what
# is left. Usage: check-install.sh [-m MIRROR] [-s SUITE] [-d FOLDER] [-k] DEB [DEV_DEB]      as root
#   -m  the mirror of Debian packages (default: debootstrap's own)     -s  bookworm
#   -d  where the system is made (a temporary folder); one that is there already is used, and stays      -k  keeps a new one, too
# With DEV_DEB a program is then compiled against the library, with a compiler that is installed for it.
# shellcheck disable=SC2016 # dollars in single quotes are for the shells and programs inside
set -euo pipefail
mirror='' suite=bookworm dir='' keep='' made=''
usage() { echo 'usage: check-install.sh [-m MIRROR] [-s SUITE] [-d FOLDER] [-k] DEB [DEV_DEB]' >&2; exit 2; }
while getopts m:s:d:k o; do
    case $o in
    m) mirror=$OPTARG ;;
    s) suite=$OPTARG ;;
    d) dir=$OPTARG ;;
    k) keep=1 ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -lt 1 ] || [ $# -gt 2 ]; then usage; fi
for f; do [ -f "$f" ] || { echo "check-install.sh: no file '$f'" >&2; exit 1; }; done
[ "$(id -u)" -eq 0 ] || { echo 'check-install.sh: chroot and mount want to be root' >&2; exit 1; }
command -v debootstrap >/dev/null || { echo 'check-install.sh: no debootstrap: apt-get install debootstrap' >&2; exit 1; }
here=$(cd "$(dirname "$0")/.." && pwd)
deb=$(readlink -f "$1") dev=$(readlink -f "${2:-/dev/null}")
dir=${dir:-$(mktemp -d)/root}
lists=$(mktemp -d)

tidy() {
    umount "$dir/dev/pts" "$dir/proc" 2>/dev/null || true
    rm -rf "$lists"
    # Nothing that is still mounted may be removed.
    if [ -n "$made" ] && [ -z "$keep" ] && ! grep -qF " $dir/" /proc/mounts; then rm -rf --one-file-system "$dir"; fi
}
trap tidy EXIT
say() { printf '\n== %s\n' "$1"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
inside() { chroot "$dir" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
user() { chroot --userspec=1000:1000 "$dir" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/home/user LC_ALL=C.UTF-8 sh -c 'cd "$HOME" && exec "$@"' - "$@"; }
# Not the package manager's own books and caches.
files() {
    (cd "$dir" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./home -o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log \
        -o -path ./var/lib/dpkg -o -path ./tmp \) -prune -o -print | LC_ALL=C sort)
}

say "a fresh $suite"
if [ ! -e "$dir/etc/debian_version" ]; then
    made=1
    mkdir -p "$dir"
    debootstrap --variant=minbase "$suite" "$dir" ${mirror:+"$mirror"} >"$lists/debootstrap" 2>&1 || { tail "$lists/debootstrap"; fail debootstrap; }
fi
cp /etc/resolv.conf "$dir/etc/resolv.conf"
mount -t proc proc "$dir/proc"
mount -t devpts devpts "$dir/dev/pts"
mkdir -p "$dir/home/user"
chown 1000:1000 "$dir/home/user"
inside apt-get update -qq
files >"$lists/before"
inside dpkg-query -W -f '${Package}\n' >"$lists/packages"

say 'install'
cp "$deb" "$dir/tmp/paligemma-tools.deb"
inside apt-get install -y -qq --no-install-recommends /tmp/paligemma-tools.deb >"$lists/log" 2>&1 || { tail "$lists/log"; fail install; }
for c in cc gcc g++ make ld; do
    if inside sh -c "command -v $c" >/dev/null; then fail "there is a $c: this shows nothing"; fi
done
files >"$lists/with"
inside dpkg -L paligemma-tools >"$lists/ours"
echo "$(comm -13 "$lists/before" "$lists/with" | wc -l) files, $(inside dpkg-query -W -f '${Package}\n' | comm -13 "$lists/packages" - | wc -l) packages more"

say 'the tools, as an ordinary user'
user pg-info
user pg-info /usr/share/pg/data/nano | sed -n 1,8p
mkdir "$dir/home/user/pictures"
cp "$here"/tests/golden/image/png-rgb8-64.png "$here"/tests/golden/image/jpg-420.jpg "$dir/home/user/pictures/"
chown -R 1000:1000 "$dir/home/user"
user /usr/share/pg/pipelines/caption.sh /usr/share/pg/data/nano pictures | tee "$lists/captions"
[ "$(grep -cE $'\t[a-z]' "$lists/captions")" -eq 2 ] || fail 'no two captions'
for t in pg-convert pg-fetch pg-infer pg-render pg-resize pg-score pg-serve pg-tokenize pg-train; do
    user $t --version >/dev/null || fail "$t does not start"
done
if user pg-demo >"$lists/demo" 2>&1; then fail 'pg-demo works without pictures'; fi
cat "$lists/demo"
grep -q 'fonts-noto-color-emoji unicode-cldr-core' "$lists/demo" || fail 'pg-demo does not say what is missing'

say 'pg-demo, with the packages that it names'
inside apt-get install -y -qq --no-install-recommends fonts-noto-color-emoji unicode-cldr-core >"$lists/log" 2>&1 || { tail "$lists/log"; fail 'install'; }
user pg-demo | tee "$lists/demo" | tail -n 24
[ -s "$dir/home/user/pg-demo/report.html" ] || fail 'no report'

say 'purge'
inside apt-get purge -y -qq --autoremove paligemma-tools fonts-noto-color-emoji unicode-cldr-core >"$lists/log" 2>&1 || { tail "$lists/log"; fail purge; }
inside dpkg-query -W -f '${Package} ${Status}\n' | grep -q paligemma && fail 'dpkg still knows it'
inside dpkg-query -W -f '${Package}\n' | diff "$lists/packages" - || fail 'other packages than before'
files >"$lists/after"
left=$(comm -13 "$lists/before" "$lists/after")
ours=$(sed 's/^/./' "$lists/ours" | LC_ALL=C sort | comm -12 - <(echo "$left"))
[ -z "$ours" ] || fail "left of this package: $ours"
echo 'nothing of this package is left'
[ -z "$left" ] || printf 'left of the packages that it needed, or of Debian itself:\n%s\n' "$left"
gone=$(comm -23 "$lists/before" "$lists/after")
[ -z "$gone" ] || fail "removed, though it was there before: $gone"

if [ "$dev" != /dev/null ]; then
    say 'a program against the library'
    cp "$dev" "$dir/tmp/libpaligemma-dev.deb"
    inside apt-get install -y -qq --no-install-recommends gcc libc6-dev pkg-config /tmp/libpaligemma-dev.deb >"$lists/log" 2>&1 || { tail "$lists/log"; fail 'install'; }
    # The manual's program, which captions a picture.
    sed -n '/^\.Bd -literal/,/^\.Ed/{/^\./d; s/\\e/\\/g; p}' "$here/man/pg.3" >"$dir/home/user/caption.c"
    cp -r "$here/data/nano" "$dir/home/user/"
    user sh -c 'gcc caption.c -o caption $(pkg-config --cflags --libs --static pg) && ./caption nano pictures/png-rgb8-64.png' || fail 'it does not build'
fi
say 'all is well'
