#!/bin/sh
# tests/fuzz.sh [SECONDS [TARGET]...]: every libFuzzer target for SECONDS (default 60) over its corpus, two at a time, one line each.
# With FUZZ_SEED a run takes the same way again (from an empty build-fuzz/found); without, a new one each time.
# New inputs go to build-fuzz/found/TARGET; a crashing input stays there as crash-*, to be named and added to the corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
build='build-fuzz'

if [ "$seconds" = --one ]; then # one target: program, seconds
    fuzzer=$build/$1
    target=$(basename "$1")
    target=${target#fuzz-}
    corpus=$(find tests/fuzz -type d -name "corpus-$target" | head -n 1)
    found=$build/found/$target
    mkdir -p "$found"
    if "$fuzzer" -max_total_time="$2" ${FUZZ_SEED:+-seed="$FUZZ_SEED"} -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" \
        "$found" ${corpus:+"$corpus"} >"$found.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")
        echo "ok fuzz $target: ${runs:-?} inputs in $2 s, no finding"
        exit 0
    fi
    echo "FAILED fuzz $target: see $found.log"
    grep -m 3 -aE 'ERROR: |SUMMARY: |runtime error: ' "$found.log" | sed 's/^/    /'
    exit 1
fi

if [ ! -f $build/build.ninja ]; then
    CC=clang meson setup $build -Dc_args=-fsanitize=fuzzer-no-link -Db_lundef=false >/dev/null
fi
# Only these: the other programs lack what libFuzzer's instrumentation wants to be linked with.
fuzzers=$(ninja -C $build -t targets all | sed -n 's|^\(tests/fuzz/[^:]*/fuzz-[^:/]*\): c_LINKER.*|\1|p' | sort)
# shellcheck disable=SC2086
[ -z "$fuzzers" ] || ninja -C $build $fuzzers >$build/build.log || { tail -n 40 $build/build.log; exit 1; }

chosen=""
for fuzzer in $fuzzers; do
    target=$(basename "$fuzzer")
    [ $# -eq 0 ] || case " $* " in *" ${target#fuzz-} "*) ;; *) continue ;; esac
    chosen="$chosen $fuzzer"
done
if [ -z "$chosen" ]; then
    echo "FAILED no fuzzer was built or none has that name"
    exit 1
fi
# shellcheck disable=SC2086
printf '%s\n' $chosen | xargs -P 2 -I '{}' sh tests/fuzz.sh --one '{}' "$seconds"
