#!/bin/sh
# tests/fuzz.sh [SECONDS [TARGET]...]: every libFuzzer target for SECONDS (default 60) over its corpus, one line each.
# New inputs go to build-fuzz/found/TARGET; a crashing input stays there as crash-*, to be named and added to the corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
build='build-fuzz'

if [ ! -f $build/build.ninja ]; then
    CC=clang meson setup $build -Dfuzz=true -Db_lundef=false >/dev/null
fi
# Only these: the other programs lack what libFuzzer's instrumentation wants to be linked with.
fuzzers=$(ninja -C $build -t targets all | sed -n 's|^\(tests/fuzz/[^:]*/fuzz-[^:/]*\): c_LINKER.*|\1|p' | sort)
# shellcheck disable=SC2086
[ -z "$fuzzers" ] || ninja -C $build $fuzzers >$build/build.log || { tail -n 40 $build/build.log; exit 1; }

failed=0
ran=0
for fuzzer in $fuzzers; do
    fuzzer=$build/$fuzzer
    target=$(basename "$fuzzer")
    target=${target#fuzz-}
    [ $# -eq 0 ] || case " $* " in *" $target "*) ;; *) continue ;; esac
    corpus=$(find tests/fuzz -type d -name "corpus-$target" | head -n 1)
    found=$build/found/$target
    mkdir -p "$found"
    ran=$((ran + 1))
    if "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" \
        "$found" ${corpus:+"$corpus"} >"$found.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")
        echo "ok $target: ${runs:-?} inputs in $seconds s, no finding"
    else
        echo "FAILED $target: see $found.log"
        failed=1
    fi
done
if [ $ran -eq 0 ]; then
    echo "FAILED no fuzzer was built or none has that name"
    exit 1
fi
exit $failed
