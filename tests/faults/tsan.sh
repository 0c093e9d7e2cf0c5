#!/usr/bin/env bash
# `make tsan`: training, captions, resizing, downloads and pg-serve under the thread sanitizer; fails where it reports anything.
# No suppressions. BUILD (default build) is where the programs that only help are; build-tsan holds those that are watched.
set -eu
cd "$(dirname "$0")/../.." || exit 1
plain=${BUILD:-build} watched=build-tsan work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=(pg-train pg-infer pg-resize pg-tokenize pg-fetch pg-serve pg-render pg-info)
make -s -j"$(nproc)" BUILD="$plain" everything
make -s -j"$(nproc)" BUILD=$watched SANITIZER=thread CFLAGS='-O1 -g' CXXFLAGS='-O1 -g' "${tools[@]/#/$watched/}"
export TSAN_OPTIONS="log_path=$work/report exitcode=66" PYTHONDONTWRITEBYTECODE=1
model=tests/golden/model/pg1.npz
"$plain/tests/train/aux_trainset" make pg1 >"$work/train.pgs"
cp "$work/train.pgs" "$work/val.pgs"
"$plain/tests/model/aux_stream" make pg1 decode >"$work/decode.pgs"
for how in '--train all --optimizer adamw' '--train lora' '--dtype bf16'; do
    # shellcheck disable=SC2086
    $watched/pg-train -q -m $model -o "$work/${how##* }" --steps 4 --batch 4 -j 4 --save-every 2 --val "$work/val.pgs" --val-every 2 $how \
        <"$work/train.pgs" >"$work/events" 2>"$work/err" || { cat "$work/err"; exit 1; }
done
for how in '' '--beam 3' '--dtype int8' '--partial'; do
    # shellcheck disable=SC2086
    $watched/pg-infer -q -m $model -n 8 -j 4 $how <"$work/decode.pgs" >"$work/out" 2>"$work/err" || [ $? -eq 4 ] || { cat "$work/err"; exit 1; }
done
$watched/pg-fetch tests/golden/image | $watched/pg-resize -q -s 56 -j 4 >"$work/out" 2>"$work/err" || [ $? -eq 4 ] || { cat "$work/err"; exit 1; }
status=0
python=$(tests/find-python msgpack) && (cd tests/serve && PG_BUILD=$plain PG_SERVE=$PWD/../../$watched/pg-serve "$python" -m unittest \
    test_api.Api test_command test_clients >"$work/serve" 2>&1) || status=1
[ $status -eq 0 ] || cat "$work/serve"
grep -E '^(FAIL|ERROR|Ran|OK)' "$work/serve"
PG_BUILD=$watched bats tests/cli/net.bats tests/cli/net-faults.bats || status=1
if compgen -G "$work/report.*" >/dev/null; then
    cat "$work"/report.*
    status=1
fi
exit $status
