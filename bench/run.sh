#!/bin/sh
# bench/run.sh [--rounds N] [--seconds N] [--connections N] [--json FILE]: CPU per request of one Sallyport worker, HAProxy and nginx.
# See bench/README.md for what is compared and how to read it.
set -eu
cd "$(dirname "$0")/.."
for program in wrk haproxy nginx openssl redis-server redis-cli cc; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || { echo "bench: $program is missing: apt-get install wrk haproxy nginx openssl redis-server gcc libssl-dev" >&2; exit 1; }
done
build=${SALLYPORT_BUILD:-build-bench}
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" --buildtype=release >/dev/null
fi
ninja -C "$build" >/dev/null
PATH=$PATH:/usr/sbin SALLYPORT_BUILD=$build exec /usr/bin/python3 bench/measure.py "$@"
