#!/usr/bin/python3
"""CPU per request: one Sallyport worker against a bare byte pump, HAProxy and nginx, in turns, with the same certificate, cipher, client and
backend; latencies at a fixed rate; Redis commands per request where limits are shared. --full: the other works (bench/works.py) too."""
import argparse
import os
import re
import subprocess
import sys

import peers
import report
import works
from peers import OTHER_CPUS
from rig import SMALL, Failed, Load, Rig

LUA = """wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["Content-Type"] = "application/json"
%s
function done(summary, latency, requests)
    io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, summary.errors.connect,
        summary.errors.read, summary.errors.write, summary.errors.status, summary.errors.timeout))
end
"""


def wrk(rig, peer, seconds):
    script = rig.directory / "wrk.lua"
    script.write_text(LUA % (SMALL, "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in peer.headers.items())))
    done = subprocess.run([*peers.pin(OTHER_CPUS), "wrk", "-t1", f"-c{rig.options.connections}", f"-d{seconds}s", "-s", str(script),
                           f"https://127.0.0.1:{peer.port}/v1/chat/completions"],
                          capture_output=True, text=True, env={**os.environ, "OPENSSL_CONF": str(rig.directory / "openssl.cnf")}, check=True)
    numbers = [int(number) for number in re.search(r"RESULT (.*)", done.stdout)[1].split()]
    result = dict(zip(("requests", "duration_us", "connect", "read", "write", "status", "timeout"), numbers))
    problems = {name: result[name] for name in ("connect", "read", "write", "status", "timeout") if result[name]}
    if problems or not result["requests"]:
        raise Failed(f"errors under load: {problems}")
    return result


def measure(rig, peer):
    """As many requests as it takes, then a fixed rate."""
    before, asked = peer.cpu_seconds(), peer.redis.commands() if peer.redis else 0
    result = wrk(rig, peer, rig.options.seconds)
    found = {"cpu_us": (peer.cpu_seconds() - before) * 1e6 / result["requests"], "requests_per_second": result["requests"] * 1e6 / result["duration_us"]}
    if peer.redis:
        found["redis_commands"] = (peer.redis.commands() - asked) / result["requests"]
    with Load(rig, peer.port, "--connections", rig.options.connections, "--rate", rig.options.rate, "--seconds", rig.options.seconds, headers=peer.headers) as load:
        result = load.run()
    found.update({name: result[name] for name in ("p50_us", "p99_us", "p999_us")})
    return found


def all_peers(rig):
    port, redis = rig.backend_port, rig.redis
    yield peers.floor_peer(rig.directory, port)
    yield peers.haproxy_peer(rig.directory, port)
    yield peers.haproxy_jwt_peer(rig.directory, port, rig.bearer_token)
    yield peers.nginx_peer(rig.directory, port)
    if os.path.exists(f"{peers.NGINX_MODULES}/ngx_http_lua_module.so"):
        yield peers.nginx_lua_peer(rig.directory, port, redis)
    yield peers.sallyport_peer(rig.directory, port, "sallyport")
    if rig.options.full:
        yield peers.sallyport_peer(rig.directory, port, "sallyport + API key", "api_key", rig.bearer_key)
        yield peers.sallyport_peer(rig.directory, port, "sallyport + JWT", "jwt", rig.bearer_token)
        yield peers.sallyport_peer(rig.directory, port, "sallyport + key + limit", "api_key", rig.bearer_key, peers.key_and_limit)
    for mode in ("leased", "strict"):
        peer = peers.sallyport_peer(rig.directory, port, f"whole policy {mode}", headers=rig.bearer_token, policy=peers.whole_policy(mode, redis))
        peer.redis = redis
        yield peer


def keep_alive(rig, running):
    """The work that the default run is about."""
    rows = [report.Row("keep-alive", peer.name, void=peer.void) for peer in running]
    for peer, row in zip(running, rows):
        row.attempt(lambda: wrk(rig, peer, 1), keep=False)
    for number in range(rig.options.rounds):
        for peer, row in zip(running, rows):
            row.attempt(lambda: measure(rig, peer))
            if not row.void:
                print(f"round {number + 1}: {peer.name}: {row.rounds[-1]['cpu_us']:.1f} us", flush=True)
    for peer, row in zip(running, rows):
        row.void = row.void or rig.problem(peer)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all works: large prompts, new connections, tokens, streams, memory, growth, storm")
    parser.add_argument("--only", default="", help="of --full, only works whose names contain this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=int, default=2000, help="requests a second where latencies are measured")
    parser.add_argument("--callers", type=int, default=1000000, help="in the growth of callers")
    parser.add_argument("--crowd", type=int, default=10000, help="connections in the growth of connections")
    parser.add_argument("--output", default=os.path.join(peers.harness.BUILD, "bench"), help="written: this and .json, this and .svg")
    parser.add_argument("--readme", action="store_true", help="put the tables into bench/README.md and the chart beside it, too")
    options = parser.parse_args()
    options.load_before = os.getloadavg()[0]
    options.full = options.full or bool(options.only)
    rig, rows = Rig(options), []
    try:
        if not options.only:
            running = [rig.add(peer) for peer in all_peers(rig)]
            rows += keep_alive(rig, running)
            rig.remove(*running)
        for name, work in works.ALL.items() if options.full else ():
            if options.only in name:
                print(f"{name} …", flush=True)
                try:
                    rows += work(rig)
                except (AssertionError, OSError, subprocess.SubprocessError) as problem:  # somebody does not start: the other works go on
                    rows.append(report.Row(name, "", void=f"{type(problem).__name__}: {problem}"[:200]))
    finally:
        rig.stop()
    report.write(rows, options)
    return 1 if any(row.void for row in rows) else 0


sys.exit(main())
