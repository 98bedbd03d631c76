#!/bin/sh
# bench/run.sh [--full] [--rounds N] [--seconds N] [...]: what a request costs in one Sallyport worker, HAProxy, nginx and a bare byte pump.
# About two minutes; --full, with all works, about a quarter of an hour. See bench/README.md for what is compared and how to read it.
set -eu
cd "$(dirname "$0")/.."
for program in wrk haproxy nginx openssl redis-server redis-cli cc; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || {
        echo "bench: $program is missing: apt-get install wrk haproxy nginx libnginx-mod-http-lua openssl redis-server redis-tools gcc libssl-dev" >&2
        exit 1
    }
done
build=${SALLYPORT_BUILD:-build-bench}
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release >/dev/null
ninja -C "$build" --quiet src/cli/sallyport src/process/sallyport-supervisor src/process/sallyport-worker src/process/sallyport-control
PATH=$PATH:/usr/sbin SALLYPORT_BUILD=$build exec /usr/bin/python3 bench/measure.py "$@"
