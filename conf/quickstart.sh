#!/bin/sh
# sh conf/quickstart.sh [--redis] [--once]
#
# From a bare Debian 12 to an answer: installs the packages that are missing, builds, makes a development certificate, an API key and a
# small issuer, starts a demonstration model server and Sallyport in front of it on https://127.0.0.1:8443, sends one request, shows the
# answer, and stays up until Ctrl-C. What it makes stays in run/quickstart/ and is used again next time.
#
#   --redis  starts a redis-server too and keeps the limits there
#   --once   ends after the demonstration; the status says whether it went well
#
# Where something else has the ports: SALLYPORT_PORT, SALLYPORT_METRICS_PORT, SALLYPORT_MODEL_PORT, SALLYPORT_REDIS_PORT.
set -eu

redis=no
once=no
for option; do
    case $option in
    --redis) redis=yes ;;
    --once) once=yes ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart: unknown option $option (known: --redis --once)" >&2; exit 2 ;;
    esac
done

cd "$(dirname "$0")/.."
top=$(pwd)
state=${SALLYPORT_STATE:-$top/run/quickstart}
build=${SALLYPORT_BUILD:-$top/build}
gateway_port=${SALLYPORT_PORT:-8443}
metrics_port=${SALLYPORT_METRICS_PORT:-9464}
model_port=${SALLYPORT_MODEL_PORT:-8001}
redis_port=${SALLYPORT_REDIS_PORT:-6390}
url=https://127.0.0.1:$gateway_port

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
give_up() { echo "quickstart: $*" >&2; exit 1; }

# ---- Packages ----

packages="build-essential meson ninja-build pkg-config libssl-dev libjansson-dev libyaml-dev libhiredis-dev libmicrohttpd-dev
    libcurl4-openssl-dev libjwt-dev libcmocka-dev openssl curl python3"
[ $redis = no ] || packages="$packages redis-server"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    say "installing$missing"
    if [ "$(id -u)" -eq 0 ]; then as_root="env"; elif command -v sudo >/dev/null; then as_root=sudo; else
        give_up "these packages are missing and only root can install them: apt-get install$missing"
    fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

# ---- Build ----

[ -f "$build/build.ninja" ] || { say "configuring" && meson setup "$build" >/dev/null; }
say "building"
ninja -C "$build" >"$build/quickstart.log" 2>&1 || { tail -n 40 "$build/quickstart.log"; give_up "the build failed"; }
sallyport=$build/src/cli/sallyport

# ---- What a gateway needs: a certificate, a key, an issuer ----

umask 077
mkdir -p "$state"
cd "$state"
if ! openssl x509 -in server.pem -noout -checkend 86400 >/dev/null 2>&1; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=localhost" \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout server.key -out server.pem 2>/dev/null
fi
if [ ! -s api-key ]; then
    rm -f keys.yaml
    "$sallyport" key new --file keys.yaml --name quickstart --role developer >api-key
fi
key=$(cat api-key)

[ -s jwks.json ] || { rm -f issuer.key; "$sallyport" token keys --out-private issuer.key --out-jwks jwks.json; }

{
    echo "# Written by conf/quickstart.sh, anew each time."
    echo "version: 1"
    [ "$(id -u)" -ne 0 ] || echo "user: nobody"
    cat <<CONFIG
listeners:
  - address: 127.0.0.1:$gateway_port
    certificates: [{chain: server.pem, key: server.key}]
    protocols: [http/1.1]
issuers:
  - {issuer: "https://quickstart.example", audience: [inference], jwks: jwks.json, algorithms: [ES256]}
api_keys: keys.yaml
roles:
  developer: {models: ["*"]}
limits:
  per-caller: {by: [subject], requests: 30/min, request_burst: 5, mode: strict}
pools:
  demonstration: {servers: [{url: "http://127.0.0.1:$model_port"}], health: {path: /health, interval: 2s}}
routes:
  - {name: api, path: /v1/, authenticate: [api_key, jwt], limits: [per-caller], pool: demonstration}
admin: {socket: admin.sock, metrics: "127.0.0.1:$metrics_port"}
logs: {access: access.log}
CONFIG
    [ $redis = no ] || echo "redis: {url: \"redis://127.0.0.1:$redis_port\"}"
} >sallyport.yaml
"$sallyport" check --config sallyport.yaml >/dev/null || give_up "the configuration was refused"

# ---- Start: each in the background, ended by its own number ----

started=""
finish() {
    status=$?
    trap - EXIT INT TERM HUP
    for pid in $started; do # the gateway first: it was started last
        kill "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# setsid: Ctrl-C in the terminal reaches this script alone, which then ends the others in order.
start() { # name, then a command
    log=$state/$1.log
    shift
    setsid "$@" >"$log" 2>&1 &
    started="$! $started"
}

answers() { # until an address answers or the last program that was started is gone
    last=${started%% *}
    tries=0
    until curl -fsS -o /dev/null --max-time 2 "$2" 2>/dev/null; do
        tries=$((tries + 1))
        if ! kill -0 "$last" 2>/dev/null || [ $tries -ge 100 ]; then
            cat "$state/$1.log" >&2
            give_up "$1 did not start; its output is above"
        fi
        sleep 0.1
    done
}

if [ $redis = yes ]; then
    start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --appendonly no --maxmemory-policy noeviction --dir "$state"
    tries=0
    until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || give_up "redis-server did not start; see $state/redis.log"
        sleep 0.1
    done
fi
start model /usr/bin/python3 "$top/tests/demo/model_server.py" --port "$model_port"
answers model "http://127.0.0.1:$model_port/health"
start gateway "$sallyport" run --config sallyport.yaml
answers gateway "http://127.0.0.1:$metrics_port/readyz"

# ---- The demonstration ----

token=$("$sallyport" token --key issuer.key --issuer https://quickstart.example --audience inference \
    --subject alice --role developer --expires 12h)
question='{"model":"demo","messages":[{"role":"user","content":"Hello"}]}'

say "one request through the gateway"
status=$(curl -sS --cacert server.pem -D headers -o answer -w '%{http_code}' "$url/v1/chat/completions" \
    -H "Authorization: Bearer $key" -H 'Content-Type: application/json' -d "$question")
cat answer
printf '\n\n'
grep -iE '^(HTTP/|x-ratelimit|ratelimit|x-request-id)' headers | tr -d '\r'
[ "$status" = 200 ] || give_up "that should have been a 200"

say "three to try, in another terminal: with the key, with a token, and too often"
cat <<TRY
curl --cacert $state/server.pem -N $url/v1/chat/completions -H "Authorization: Bearer \$(cat $state/api-key)" -H 'Content-Type: application/json' -d '{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
curl --cacert $state/server.pem $url/v1/models -H "Authorization: Bearer $token"
for i in 1 2 3 4 5 6; do curl --cacert $state/server.pem -sSi $url/v1/models -H "x-api-key: \$(cat $state/api-key)" | grep -iE '^(HTTP|retry-after|x-ratelimit-remaining)'; done
TRY

[ $once = no ] || exit 0
say "up on $url until Ctrl-C (log: $state/access.log, metrics: http://127.0.0.1:$metrics_port/metrics)"
wait "${started%% *}" || give_up "the gateway ended; see $state/gateway.log"
