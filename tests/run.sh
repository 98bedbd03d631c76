#!/bin/sh
# tests/run.sh: every test there is. Ends with one line "N passed, N failed"; the status is 0 only when nothing failed.
#
#   1. a gcc build with warnings as errors: unit tests, fuzz corpora, black-box tests, hardening of the binaries
#   2. a clang build with AddressSanitizer and UndefinedBehaviorSanitizer: the same tests but those that measure
#   3. static checks and a search for secrets
#   4. line coverage of what reads strangers' bytes; the request parser against nginx; every fuzzer for FUZZ_SECONDS (20)
#   5. mixed load for SOAK_MINUTES (1) with reloads, Redis restarts and killed workers; instructions per request
#      against their baseline, with the build that is installed
#
# tests/run.sh unit | blackbox | sanitizers | static | coverage | differential | fuzz | soak | instructions runs one part. Reports stay in build/report/.
# Whatever hangs, it ends after RUN_SECONDS (4500, and what FUZZ_SECONDS and SOAK_MINUTES ask for beyond 20 and 1): what is late is ended, and counted as failed.
set -u
cd "$(dirname "$0")/.." || exit 1
part=${1:-all}
report=build/report
failed=0
fuzz_seconds=${FUZZ_SECONDS:-20}
soak_minutes=${SOAK_MINUTES:-1}
fuzz_targets=$(find tests/fuzz -mindepth 2 -name '*.c' | wc -l)
longer=$((fuzz_seconds > 20 ? (fuzz_seconds - 20) * fuzz_targets : 0))
longer=$((longer + (soak_minutes - 1) * 60))
over=$(($(date +%s) + ${RUN_SECONDS:-4500} + longer))

say() { printf '\n== %s\n' "$*"; }
wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

late() { # why: one more failure
    echo "FAILED $1" | tee -a "$report/late.lines" >&2
}

bounded() { # seconds, what it is, then a command; when the time is over, it and all it started is ended
    limit=$1
    what=$2
    shift 2
    left=$((over - $(date +%s)))
    if [ "$left" -le 0 ]; then
        late "$what: no time is left for it"
        return 124
    fi
    [ "$limit" -le "$left" ] || limit=$left
    SALLYPORT_TEST_RUN=$$ timeout --foreground -k 60 "$limit" "$@"
    status=$?
    /usr/bin/python3 tests/e2e/watchdog.py sweep SALLYPORT_TEST_RUN=$$ >&2
    case $status in 124 | 137) late "$what: not done in $limit s" ;; esac
    return $status
}

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
    [ -f "$build/build.ninja" ] || bounded 300 "meson setup $build" meson setup "$build" "$@"
}

meson_tests() { # build directory, name of the report, how many times the seconds a test may take
    rm -f "$1/meson-logs/testlog.json"
    bounded 600 "$2" meson test -C "$1" --no-rebuild --print-errorlogs --num-processes 4 -t "$3" | tail -n 40
    cp "$1/meson-logs/testlog.json" "$report/$2.meson.json" 2>/dev/null
    reports="$reports $report/$2.meson.json"
}

black_box() { # build directory, name of the report, then options for pytest
    build=$1
    name=$2
    shift 2
    notes=$PWD/$report/$name.running
    rm -f "$notes" "$notes.stacks"
    # Each test has its own time-out (tests/e2e/pytest.ini, tests/e2e/watchdog.py).
    bounded 1500 "$name" env SALLYPORT_BUILD="$build" SALLYPORT_RUNNING="$notes" /usr/bin/python3 -m pytest tests/e2e -n 5 --dist loadfile \
        --durations 8 --junitxml "$report/$name.junit.xml" "$@"
    status=$?
    case $status in 0 | 1 | 124 | 137) ;; *) late "$name: pytest ended with status $status" ;; esac
    /usr/bin/python3 tests/e2e/watchdog.py unfinished "$notes" | tee -a "$report/late.lines"
    [ ! -e "$notes.stacks" ] || tail -n 300 "$notes.stacks"
    reports="$reports $report/$name.junit.xml"
}

told() { # name, seconds, then a command that prints lines "ok …" and "FAILED …"
    name=$1
    limit=$2
    shift 2
    { bounded "$limit" "$name" "$@"; echo $? >"$report/step.status"; } | tee "$report/$name.lines"
    status=$(cat "$report/step.status")
    case $status in
    0 | 124 | 137) ;;
    *) grep -q '^FAILED ' "$report/$name.lines" || late "$name: ended with status $status" ;;
    esac
    reports="$reports $report/$name.lines"
}

mkdir -p "$report"
rm -f "$report"/*.junit.xml "$report"/*.meson.json "$report"/*.lines "$report"/*.running*
: >"$report/build.lines"
reports="$report/build.lines"

say "building"
step "configures with gcc" configure build -Dwerror=true &&
    step "builds with gcc, warnings as errors" bounded 1200 "the gcc build" ninja -C build || failed=1

if wanted sanitizers; then
    CC=clang step "configures with clang and sanitizers" configure build-asan -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false &&
        step "builds with clang and sanitizers" bounded 1200 "the clang build" ninja -C build-asan || failed=1
fi

if [ $failed -eq 0 ]; then
    if wanted unit; then
        say "unit tests and fuzz corpora"
        meson_tests build unit 1
        say "hardening of the binaries"
        bounded 120 hardening sh tests/hardening.sh build | tee "$report/hardening.lines" | grep -v '^ok ' || echo "as promised"
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
        bounded 900 "static checks" sh tests/static.sh build build-asan | tee "$report/static.lines"
        reports="$reports $report/static.lines"
    fi
    if wanted coverage; then
        say "line coverage"
        bounded 900 coverage sh tests/coverage.sh | tee "$report/coverage.lines"
        reports="$reports $report/coverage.lines"
    fi
    if wanted differential; then
        say "the request parser and nginx"
        bounded 600 "comparison with nginx" /usr/bin/python3 tests/differential/run.py build --count 40000 | tee "$report/differential.lines"
        reports="$reports $report/differential.lines"
    fi
    if wanted fuzz; then
        say "fuzzers"
        bounded $((600 + fuzz_seconds * fuzz_targets)) fuzzers env FUZZ_SEED="${FUZZ_SEED:-1}" sh tests/fuzz.sh "$fuzz_seconds" | tee "$report/fuzz.lines"
        reports="$reports $report/fuzz.lines"
    fi
    if wanted soak; then
        say "mixed load, reloads, Redis restarts, killed workers"
        told soak $((300 + 60 * soak_minutes)) env SALLYPORT_BUILD=build sh bench/soak.sh "$soak_minutes"
    fi
    if wanted instructions; then
        say "instructions per request"
        told instructions 900 sh bench/instructions.sh
        told hardening-release 120 sh tests/hardening.sh build-bench
    fi
fi

say "all together"
[ ! -s "$report/late.lines" ] || reports="$reports $report/late.lines"
# shellcheck disable=SC2086
/usr/bin/python3 tests/tally.py $reports
