#!/bin/sh
# tests/coverage.sh [--lines]: how much of the folders that read what strangers send is run by unit tests and fuzz corpora. One line per folder;
# the status is 1 when less than 90 % of the lines of any ran. --lines names those that did not. Uses build-coverage.
set -eu
cd "$(dirname "$0")/.."
build='build-coverage'
wanted=90

if [ ! -f $build/build.ninja ]; then
    meson setup $build -Db_coverage=true -Dbuildtype=debug >/dev/null
fi
ninja -C $build >$build/build.log || {
    tail -n 40 $build/build.log
    echo "FAILED coverage: it does not build"
    exit 1
}
find $build -name '*.gcda' -delete
status=0
meson test -C $build --no-rebuild --num-processes 4 -t 3 >$build/test.log 2>&1 || {
    grep -E ' (FAIL|TIMEOUT) ' $build/test.log
    echo "FAILED coverage: a test failed, and what follows was counted without it"
    status=1
}
python3 tests/coverage.py $build $wanted http identity limit ipc "$@" || status=1
exit $status
