#!/bin/sh
# bench/soak.sh MINUTES [--json FILE]: mixed load on a whole gateway with Redis while it is reloaded, its Redis restarted and its workers killed.
# Prints memory, descriptors and errors every ten seconds, then lines "ok …" or "FAILED …". bench/soak.py says what counts as lost.
set -eu
cd "$(dirname "$0")/.."
build=${SALLYPORT_BUILD:-build-bench}
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release >/dev/null
ninja -C "$build" --quiet src/cli/sallyport src/process/sallyport-supervisor src/process/sallyport-worker src/process/sallyport-control >&2
PATH=$PATH:/usr/sbin SALLYPORT_BUILD=$build exec /usr/bin/python3 bench/soak.py "$@"
