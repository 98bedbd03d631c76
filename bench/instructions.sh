#!/bin/sh
# bench/instructions.sh [--write]: instructions per request under callgrind for four fixed cases, compared with bench/instructions.json.
# Fails when one has grown by more than 5 %. --write makes what was found the baseline.
set -eu
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "bench: valgrind is missing: apt-get install valgrind" >&2; exit 1; }
build=${SALLYPORT_BUILD:-build-bench}
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release >/dev/null
ninja -C "$build" src/cli/sallyport src/process/sallyport-supervisor src/process/sallyport-worker src/process/sallyport-control >/dev/null
SALLYPORT_BUILD=$build exec /usr/bin/python3 bench/instructions.py "$@"
