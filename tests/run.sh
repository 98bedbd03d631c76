#!/bin/sh
# tests/run.sh: every test there is. Ends with one line "N passed, N failed"; the status is 0 only when nothing failed.
#
#   1. a gcc build with warnings as errors: unit tests, fuzz corpora, black-box tests, hardening of the binaries
#   2. a clang build with AddressSanitizer and UndefinedBehaviorSanitizer: the same tests but those that measure
#   3. static checks and a search for secrets
#   4. line coverage of what reads strangers' bytes; the request parser against nginx; every fuzzer for FUZZ_SECONDS (20)
#
# tests/run.sh unit | blackbox | sanitizers | static | coverage | differential | fuzz runs one part. Reports stay in build/report/.
set -u
cd "$(dirname "$0")/.." || exit 1
part=${1:-all}
report=build/report
failed=0

say() { printf '\n== %s\n' "$*"; }
wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

step() { # name in the report, then a command: one line "ok …" or "FAILED …"
    name=$1
    shift
    if "$@" >"$report/step.log" 2>&1; then
        echo "ok $name" | tee -a "$report/build.lines"
    else
        tail -n 60 "$report/step.log"
        echo "FAILED $name" | tee -a "$report/build.lines"
        return 1
    fi
}

configure() { # build directory, then options
    build=$1
    shift
    [ -f "$build/build.ninja" ] || meson setup "$build" "$@"
}

meson_tests() { # build directory, name of the report, seconds a test may take, times
    rm -f "$1/meson-logs/testlog.json"
    meson test -C "$1" --no-rebuild --print-errorlogs --num-processes 2 -t "$3" | tail -n 40
    cp "$1/meson-logs/testlog.json" "$report/$2.meson.json" 2>/dev/null
    reports="$reports $report/$2.meson.json"
}

black_box() { # build directory, name of the report, then options for pytest
    build=$1
    name=$2
    shift 2
    SALLYPORT_BUILD=$build /usr/bin/python3 -m pytest tests/e2e -n 2 --dist loadfile --durations 8 --junitxml "$report/$name.junit.xml" "$@"
    reports="$reports $report/$name.junit.xml"
}

mkdir -p "$report"
rm -f "$report"/*.junit.xml "$report"/*.meson.json "$report"/*.lines
: >"$report/build.lines"
reports="$report/build.lines"

say "building"
step "configures with gcc" configure build -Dwerror=true &&
    step "builds with gcc, warnings as errors" ninja -C build || failed=1

if wanted sanitizers; then
    CC=clang step "configures with clang and sanitizers" configure build-asan -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false &&
        step "builds with clang and sanitizers" ninja -C build-asan || failed=1
fi

if [ $failed -eq 0 ]; then
    if wanted unit; then
        say "unit tests and fuzz corpora"
        meson_tests build unit 1
        say "hardening of the binaries"
        sh tests/hardening.sh build | tee "$report/hardening.lines" | grep -v '^ok ' || echo "as promised"
        reports="$reports $report/hardening.lines"
    fi
    if wanted blackbox; then
        say "black-box tests"
        black_box build blackbox
    fi
    if wanted sanitizers; then
        say "under AddressSanitizer and UndefinedBehaviorSanitizer"
        meson_tests build-asan sanitized-unit 4
        SALLYPORT_KIND=sanitized black_box build-asan sanitized-blackbox
    fi
    if wanted static; then
        say "static checks"
        CC=clang configure build-asan -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
        sh tests/static.sh build build-asan | tee "$report/static.lines"
        reports="$reports $report/static.lines"
    fi
    if wanted coverage; then
        say "line coverage"
        sh tests/coverage.sh | tee "$report/coverage.lines"
        reports="$reports $report/coverage.lines"
    fi
    if wanted differential; then
        say "the request parser and nginx"
        python3 tests/differential/run.py build --count 40000 | tee "$report/differential.lines"
        reports="$reports $report/differential.lines"
    fi
    if wanted fuzz; then
        say "fuzzers"
        FUZZ_SEED=${FUZZ_SEED:-1} sh tests/fuzz.sh "${FUZZ_SECONDS:-20}" | tee "$report/fuzz.lines"
        reports="$reports $report/fuzz.lines"
    fi
fi

say "all together"
# shellcheck disable=SC2086
/usr/bin/python3 tests/tally.py $reports
