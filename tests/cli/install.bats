#!/usr/bin/env bats
# make install and uninstall; what is installed works from any folder; completion.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    [ -z "${PG_COVERAGE:-}" ] || skip 'a library that counts lines links with nobody'
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    tools=$(for t in tools/pg-*.c; do basename "$t" .c; done)
}

pgmake() { make -s --no-print-directory BUILD="$B" "$@"; }
tree() { (cd "$1" && find . -printf '%p %y %m %s %l\n' | LC_ALL=C sort); }

@test "uninstall leaves the tree as it was before install, whatever was there" {
    mkdir -p "$T/new" "$T/old/opt/pg/bin" "$T/old/opt/pg/share/man/man1" "$T/old/opt/pg/share/pg" "$T/old/opt/pg/include/pg"
    echo other >"$T/old/opt/pg/bin/pg-other"
    echo other >"$T/old/opt/pg/share/pg/mine"
    for root in new old; do
        tree "$T/$root" >"$T/before"
        pgmake install DESTDIR="$T/$root" prefix=/opt/pg
        [ -x "$T/$root/opt/pg/bin/pg-infer" ]
        pgmake install DESTDIR="$T/$root" PREFIX=/opt/pg # twice is once
        pgmake uninstall DESTDIR="$T/$root" PREFIX=/opt/pg
        tree "$T/$root" >"$T/after"
        diff "$T/before" "$T/after"
    done
    run -2 make -s BUILD="$B" uninstall DESTDIR="$T/new" prefix=/opt/pg
    [[ $output == *'nothing is installed there'* ]]
}

@test "uninstall keeps what others have put into our folders; an install over an older one removes its left-overs" {
    pgmake install DESTDIR="$T/root" prefix=/usr
    echo mine >"$T/root/usr/share/pg/pipelines/mine.sh"
    echo old >"$T/root/usr/share/pg/pipelines/old.sh"
    echo 'file /usr/share/pg/pipelines/old.sh' >>"$T/root/usr/share/pg/manifest"
    pgmake install DESTDIR="$T/root" prefix=/usr
    [ ! -e "$T/root/usr/share/pg/pipelines/old.sh" ]
    pgmake uninstall DESTDIR="$T/root" prefix=/usr
    [ "$(find "$T/root" -type f)" = "$T/root/usr/share/pg/pipelines/mine.sh" ]
}

@test "each of GNU's folders is where it is said to be, and nothing says the staging folder" {
    pgmake install DESTDIR="$T/root" prefix=/p exec_prefix=/x bindir=/b libdir=/l libexecdir=/e includedir=/i datadir=/d mandir=/m
    for f in /b/pg-infer /b/pg-demo /l/libpg.a /l/pkgconfig/pg.pc /e/pg/data/emoji /i/pg/stream/stream.h /d/pg/data/nano/model.npz \
        /d/pg/pipelines/caption.sh /d/pg/pipelines/recipes/cococap /m/man1/pg-infer.1 /m/man5/pg-stream.5 /m/man7/pg.7 /m/man3/pg.3 /i/pg/pg.h; do
        [ -f "$T/root$f" ] || { echo "no $f"; false; }
    done
    # pg-mpi.so, where it is built, lies in ../lib of the tools.
    [ "$(ls "$T/root" | grep -vx lib)" = "$(printf '%s\n' b d e i l m)" ]
    [ ! -e "$T/root/lib" ] || [ "$(find "$T/root/lib" -type f)" = "$T/root/lib/pg/pg-mpi.so" ]
    [ -f "$T/root/d/bash-completion/completions/pg-train" ]
    [ -f "$T/root/d/bash-completion/completions/pg-demo" ]
    [ "$("$T/root/e/pg/pg-info" --version)" = "$("$B/pg-info" --version)" ]
    run grep -rIl -e "$T" -e '@[a-z]*@' "$T/root"
    [ "$status" -eq 1 ]
    grep -qx 'libdir=/l' "$T/root/l/pkgconfig/pg.pc"
}

@test "a program builds against the library with what pkg-config says" {
    command -v pkg-config >/dev/null || skip 'no pkg-config'
    pgmake install prefix="$T/p"
    export PKG_CONFIG_PATH=$T/p/lib/pkgconfig
    [ "$(pkg-config --modversion pg)" = "$("$B/pg-info" --version | cut -d' ' -f2)" ]
    cat >"$T/count.c" <<'program'
#include <stdio.h>
#include <model/decode.h>
#include <stream/stream.h>
#include <weights/weights.h>
int main(int argc, char **argv)
{
    pg_err e = {0};
    pg_weights *w;
    if (argc != 2 || pg_weights_open(&w, argv[1], &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    printf("%zu tensors\n", pg_weights_count(w));
    pg_weights_close(w);
    return 0;
}
program
    # shellcheck disable=SC2046 # several options
    (cd "$T" && "${TEST_CC:-cc}" -std=c11 -Wall -Wextra -Werror count.c -o count $(pkg-config --cflags --libs --static pg))
    run "$T/count" data/nano/model.npz
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$output" = "$("$B/pg-info" data/nano | sed -n 's/^tensors  *\([0-9]*\).*/\1 tensors/p')" ]
    # A staged installation, for another machine's folders.
    pgmake install DESTDIR="$T/stage" prefix=/no/such
    # shellcheck disable=SC2046
    (cd "$T" && export PKG_CONFIG_SYSROOT_DIR=$T/stage PKG_CONFIG_PATH=$T/stage/no/such/lib/pkgconfig &&
        "${TEST_CC:-cc}" -std=c11 -Wall -Wextra -Werror count.c -o staged $(pkg-config --cflags --libs --static pg))
    "$T/staged" data/nano/model.npz
    # The manual's program, of which the caption is pg-infer's.
    sed -n '/^\.Bd -literal/,/^\.Ed/{/^\./d; s/\\e/\\/g; p}' man/pg.3 >"$T/caption.c"
    # shellcheck disable=SC2046
    (cd "$T" && "${TEST_CC:-cc}" -std=c11 -Wall -Wextra -Werror caption.c -o caption $(pkg-config --cflags --libs --static pg))
    picture=tests/golden/image/jpg-exif6.jpg
    want=$("$B/pg-fetch" $picture | "$B/pg-resize" -m data/nano | "$B/pg-tokenize" -m data/nano -p 'caption en' | "$B/pg-infer" -q -m data/nano -n 64 | "$B/pg-render" -f captions)
    run "$T/caption" data/nano $picture
    echo "$output"
    [ "$status" -eq 0 ]
    [ -n "$output" ]
    [ "$output" = "${want#*$'\t'}" ]
    run "$T/caption" data/nano "$T/none.png"
    [ "$status" -eq 1 ]
    [[ $output == "cannot open '$T/none.png'"* ]]
    # Every installed header stands by itself, in C11, and is one of those of pg.h.
    cd "$T/p/include/pg"
    for h in pg.h */*.h; do
        # shellcheck disable=SC2046
        echo "#include \"$h\"" | cc -std=c11 -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags pg) -x c -
        [ "$h" = pg.h ] || grep -qxF "#include \"$h\"" pg.h || { echo "pg.h lacks $h"; false; }
    done
}

@test "installed pipelines find the tools and the model from any folder, without PATH" {
    pgmake install prefix="$T/p"
    mkdir -p "$T/elsewhere/pictures"
    cp tests/golden/image/png-rgb8-64.png "$T/elsewhere/pictures/"
    echo '{"image":"pictures/png-rgb8-64.png","suffix":"a thing"}' >"$T/elsewhere/train.jsonl"
    cd "$T/elsewhere"
    PATH=/usr/bin:/bin
    run "$T/p/share/pg/pipelines/caption.sh" "$T/p/share/pg/data/nano" pictures
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == png-rgb8-64.png* ]]
    run "$T/p/share/pg/pipelines/finetune.sh" "$T/p/share/pg/data/nano" train.jsonl tuned --steps 1
    [ "$status" -eq 0 ]
    [ -f tuned/model.npz ]
    "$T/p/bin/pg-fetch" train.jsonl | "$T/p/bin/pg-resize" -s 64 | "$T/p/bin/pg-tokenize" -m "$T/p/share/pg/data/nano" >x.pgs
    run make -f "$T/p/share/pg/pipelines/sweep.mk" TRAIN=x.pgs VAL=x.pgs STEPS=1 BATCH=1 LRS=0.1 SEEDS=0
    echo "$output"
    [ "$status" -eq 0 ]
    [ -s sweep/report.html ]
    run "$T/p/share/pg/pipelines/transfer.sh" cococap pg-infer
    [ "$status" -eq 0 ]
    run "$T/p/share/pg/pipelines/caption.sh" "$T/p/share/pg/data/none" pictures
    [ "$status" -ne 0 ]
}

@test "pg-demo: the demo of an installation, from any folder" {
    [ -f /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] || skip 'no fonts-noto-color-emoji'
    [ -d /usr/share/unicode/cldr/common/annotations ] || skip 'no unicode-cldr-core'
    pgmake install prefix="$T/p"
    pgmake install DESTDIR="$T/stage" prefix=/no/such bindir=/no/such/tools datadir=/no/such/data
    mkdir "$T/elsewhere"
    cd "$T/elsewhere"
    DEMO_STEPS=8 DEMO_PICTURES=10 PATH=/usr/bin:/bin run "$T/p/bin/pg-demo" out
    echo "$output"
    [ "$status" -eq 0 ]
    [ -f out/report.html ]
    [ -f out/tuned/model.npz ]
    [[ ${lines[-1]} == *"$T/p/share/pg/pipelines/serve.sh $T/elsewhere/out/tuned" ]]
    [[ $output == *"$T/p/share/pg/pipelines/finetune.sh $T/p/share/pg/data/nano pictures/"* ]]
    # The same where the tree was staged or has moved: no folder is where it was said to be.
    mv "$T/stage/no/such" "$T/moved"
    DEMO_STEPS=1 DEMO_PICTURES=2 PATH=/usr/bin:/bin run "$T/moved/tools/pg-demo" moved
    echo "$output"
    [ "$status" -eq 0 ]
    [ -f moved/report.html ]
    PATH=/usr/bin:/bin run "$T/moved/data/pg/pipelines/caption.sh" "$T/moved/data/pg/data/nano" "$OLDPWD/tests/golden/image/png-rgb8.png"
    [ "$status" -eq 0 ]
    run "$T/p/bin/pg-demo" --no-such
    [ "$status" -eq 2 ]
    run "$T/p/bin/pg-demo" a b
    [ "$status" -eq 2 ]
    [ "$("$T/p/bin/pg-demo" --version | cut -d' ' -f2)" = "$("$T/p/bin/pg-info" --version | cut -d' ' -f2)" ]
}

# complete WORD...: what bash would offer for the last word
complete() {
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pg; printf "%s\n" "${COMPREPLY[@]}"' - "$T/pg.bash" "$@" | LC_ALL=C sort | paste -sd' '
}

@test "dist: the same bytes again, and out of the tarball itself; nothing that was built is in it" {
    packaging/dist.sh "$T/pg-1.tar.gz"
    mkdir "$T/again" "$T/third"
    (umask 077 && TZ=Asia/Tokyo packaging/dist.sh "$T/again/pg-1.tar.gz")
    cmp "$T/pg-1.tar.gz" "$T/again/pg-1.tar.gz"
    tar -xzf "$T/pg-1.tar.gz" -C "$T/third"
    mkdir "$T/third/pg-1/build"
    touch "$T/third/pg-1/build/pg-infer"
    "$T/third/pg-1/packaging/dist.sh" "$T/third/pg-1.tar.gz"
    cmp "$T/pg-1.tar.gz" "$T/third/pg-1.tar.gz"
    [ "$(tar -tzf "$T/pg-1.tar.gz" | cut -d/ -f1 | sort -u)" = pg-1 ]
    for f in Makefile tools/tool.c data/nano/model.npz packaging/debian/rules tests/run.sh; do tar -tzf "$T/pg-1.tar.gz" | grep -qxF "pg-1/$f"; done
}

@test "completion: every option of every table, values that are enumerated, files by ending" {
    pgmake "$B/pg.bash"
    cp "$B/pg.bash" "$T/"
    bash -n "$T/pg.bash"
    for t in $tools; do
        grep -qE "^complete -F _pg.* $t( |$)" "$T/pg.bash"
        want=$("$B/$t" --list-options | grep -oE -- '(^|, )--?[a-zA-Z][a-z0-9-]*' | sed 's/^, //' | grep -- '^--' | LC_ALL=C sort | paste -sd' ')
        [ -n "$want" ]
        [ "$(complete "$t" --)" = "$want" ] || { echo "$t: $(complete "$t" --), not $want"; false; }
    done
    [ "$(complete pg-infer --dtype '')" = 'bf16 f16 f32 int8' ]
    [ "$(complete pg-infer --dtype = b)" = bf16 ]
    [ "$(complete pg-train --train l)" = 'llm lora' ]
    [ "$(complete pg-train --steps '')" = '' ]
    mkdir "$T/files"
    cd "$T/files"
    mkdir folder
    touch a.npz b.safetensors c.model d.jsonl e.pgs f.txt 'with space.jsonl'
    [ "$(complete pg-infer --model '')" = 'a.npz b.safetensors c.model folder' ]
    [ "$(complete /usr/bin/pg-infer -m a)" = a.npz ]
    [ "$(complete pg-fetch '')" = 'd.jsonl e.pgs folder with space.jsonl' ]
    [ "$(complete pg-info e)" = e.pgs ]
    [ "$(complete pg-train --val '')" = 'e.pgs folder' ]
    [ "$(complete pg-infer --tokenizer '')" = 'c.model folder' ]
    [ "$(complete pg-resize '')" = '' ]
    [[ " $(complete pg-serve -- ba) " == *' bash '* ]]
    grep -qE '^complete -F _pg.* pg-demo( |$)' "$T/pg.bash"
    [ "$(complete pg-demo --)" = '--help --version' ]
    [ "$(complete pg-demo '')" = folder ]
}

@test "completion: values that a table says are all there are, are taken by the tool, and another is not" {
    for t in $tools; do
        while read -r option values; do
            for v in ${values//|/ }; do
                [[ $v == [A-Z]* ]] && continue
                run "$B/$t" "$option" "$v" --no-such-option
                [[ $output == *"unknown option '--no-such-option'"* ]] || { echo "$t $option $v: $output"; false; }
            done
        done < <("$B/$t" --list-options | sed -n 's/.*\(--[a-z-]*\) \([^ ]*|[^ ]*\)$/\1 \2/p')
    done
}

@test "the help shows every option of a tool's table" {
    for t in $tools; do
        help=$("$B/$t" --help)
        for o in $("$B/$t" --list-options | grep -oE -- '--[a-z0-9-]+'); do
            grep -qE -- "$o([^a-z0-9-]|\$)" <<<"$help" || { echo "$t: $o is not in its help"; false; }
        done
    done
}
