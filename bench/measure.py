#!/usr/bin/python3
"""CPU per request: one Sallyport worker against a bare byte pump, HAProxy and nginx, in turns, with the same certificate, cipher, client and
backend; and Redis commands per request where limits are shared."""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import harness  # noqa: E402
from issuer import Issuer  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
ANSWER = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": {
    "role": "assistant", "content": "fixed " * 40}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}})
BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "x" * 440}]})
CIPHER = "TLS_AES_128_GCM_SHA256"


class Peer:
    """One program under load: where it listens, which processes it is, what a client must send."""

    def __init__(self, name, port, pids, stop, headers=()):
        self.name, self.port, self.pids, self.stop, self.headers = name, port, pids, stop, dict(headers)
        self.rounds, self.void, self.redis = [], None, None

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS


def family(pid):
    found = [pid]
    for child in harness.children(pid):
        found += family(child)
    return found


def pin(cpus):
    """Keeps the proxy on one processor and client and backend on the others, where there is more than one."""
    return ["taskset", "-c", cpus] if shutil.which("taskset") and os.cpu_count() > 1 else []


PROXY_CPU, OTHER_CPUS = "0", f"1-{os.cpu_count() - 1}"


def spawn(command, cpus, directory, name, environment=None):
    log = open(directory / f"{name}.log", "wb")
    return subprocess.Popen([*pin(cpus), *command], stdout=log, stderr=log, env={**os.environ, **(environment or {})})


def end(process):
    process.terminate()
    process.wait(20)


def nginx_configuration(directory, name, servers, workers=1):
    path = directory / f"{name}.conf"
    temporary = "\n".join(f"    {what}_temp_path {directory};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path.write_text(f"daemon off;\nworker_processes {workers};\npid {directory}/{name}.pid;\nerror_log stderr error;\n"
                    f"events {{ worker_connections 4096; }}\nhttp {{\n    access_log off;\n    keepalive_requests 100000000;\n    tcp_nodelay on;\n{temporary}\n{servers}\n}}\n")
    return ["nginx", "-c", str(path), "-p", str(directory)]


def backend(directory, port):
    servers = f"""    server {{ listen 127.0.0.1:{port};
        location / {{ default_type application/json; return 200 '{ANSWER}'; }} }}"""
    return spawn(nginx_configuration(directory, "backend", servers), OTHER_CPUS, directory, "backend")


def nginx_peer(directory, backend_port):
    port = harness.free_port()
    servers = f"""    upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 256; keepalive_requests 100000000; }}
    server {{ listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key;
        ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {CIPHER};
        location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
                      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }}"""
    process = spawn(nginx_configuration(directory, "nginx", servers), PROXY_CPU, directory, "nginx")
    return Peer("nginx", port, lambda: family(process.pid), lambda: end(process))


def haproxy_peer(directory, backend_port):
    port = harness.free_port()
    both = directory / "both.pem"
    both.write_text((directory / "server.pem").read_text() + (directory / "server.key").read_text())
    both.chmod(0o600)
    (directory / "haproxy.cfg").write_text(f"""global
    nbthread 1
    maxconn 4096
    ssl-default-bind-ciphersuites {CIPHER}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend in
    bind 127.0.0.1:{port} ssl crt {both} ssl-min-ver TLSv1.3 alpn http/1.1
    default_backend out
backend out
    server one 127.0.0.1:{backend_port}
""")
    process = spawn(["haproxy", "-W", "-f", str(directory / "haproxy.cfg")], PROXY_CPU, directory, "haproxy")
    return Peer("haproxy", port, lambda: family(process.pid), lambda: end(process))


def floor_peer(directory, backend_port):
    """bench/floor.c: what passing bytes through TLS costs when nobody looks at them."""
    port = harness.free_port()
    built = directory / "floor"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", str(ROOT / "bench" / "floor.c"), "-o", str(built), "-lssl", "-lcrypto"], check=True)
    process = spawn([str(built), str(port), str(directory / "server.pem"), str(directory / "server.key"), str(backend_port), CIPHER], PROXY_CPU, directory, "floor")
    return Peer("floor", port, lambda: family(process.pid), lambda: end(process))


class Redis:
    def __init__(self, directory):
        self.port = harness.free_port()
        self.process = spawn(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory)],
                             OTHER_CPUS, directory, "redis")

    def commands(self):
        """Decisions and settlements: scripts called so far."""
        shown = subprocess.run(["redis-cli", "-p", str(self.port), "INFO", "commandstats"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"cmdstat_evalsha:calls=(\d+)", shown)
        return int(found[1]) if found else 0


def whole_policy(config, home, redis, mode):
    """JWT, role, model from the body, exact limits on requests and tokens shared through Redis, access log."""
    config["redis"] = {"url": f"redis://127.0.0.1:{redis.port}", "deadline": "50ms"}
    config["roles"] = {"user": {"models": ["*"]}, "chat": {"models": ["demo*"], "limits": ["per-caller"]}}
    config["limits"] = {"per-caller": {"by": ["subject"], "requests": "100000/s", "request_burst": 100000, "tokens": "60000000/s", "token_burst": 100000000, "mode": mode}}
    config["models"] = {"demo": {"pool": "main"}}
    config["routes"] = [{"name": "all", "path": "/", "authenticate": ["jwt"], "roles": ["chat"], "models": "body"}]
    config["logs"]["access"] = str(home / "access.log")


def sallyport_peer(directory, backend_port, name, authenticate, headers, limited=False, policy=None):
    home = directory / name.replace(" ", "-").replace("+", "and")
    home.mkdir()
    for file in ("server.pem", "server.key", "keys.yaml", "jwks.json"):
        shutil.copy(directory / file, home / file)
    config = {
        "version": 1, "workers": 1, "drain_timeout": "1s",
        "listeners": [{"address": f"127.0.0.1:{harness.free_port()}", "certificates": [{"chain": "server.pem", "key": "server.key"}],
                       "protocols": ["http/1.1"], "max_connections_per_address": 4096}],
        "issuers": [{"issuer": "https://login.tests.example", "audience": ["inference"], "jwks": "jwks.json"}],
        "api_keys": "keys.yaml", "roles": {"user": {"models": ["*"]}},
        "limits": {"huge": {"by": ["subject"], "requests": "1000000/s", "request_burst": 1000000, "mode": "strict"}} if limited else {},
        "pools": {"main": {"servers": [{"url": f"http://127.0.0.1:{backend_port}"}], "connections": 1024}},
        "routes": [{"name": "all", "path": "/", "authenticate": [authenticate], "pool": "main", "limits": ["huge"] if limited else []}],
        "admin": {"metrics": f"127.0.0.1:{harness.free_port()}"}, "logs": {"access": "off", "level": "warn"},
    }
    if policy:
        policy(config, home)
    if os.geteuid() == 0:
        config["user"] = "nobody"
    gateway = harness.Gateway(home, config)
    gateway.start()
    for pid in family(gateway.process.pid):
        subprocess.run([*pin(PROXY_CPU)[:1], "-a", "-p", "-c", PROXY_CPU, str(pid)] if pin(PROXY_CPU) else ["true"], stdout=subprocess.DEVNULL, check=False)
    return Peer(name, gateway.port, lambda: family(gateway.process.pid), gateway.stop, headers)


def ask(peer, cafile):
    with harness.Client(peer.port, cafile) as client:
        response = client.request("POST", "/v1/chat/completions", body=BODY.encode(), headers={"Content-Type": "application/json", **peer.headers})
        return response.status, response.body.decode(), client.sock.version(), client.sock.cipher()[0]


def answers_rightly(peer, cafile):
    try:
        status, body, version, _ = ask(peer, cafile)
    except (OSError, harness.BrokenTransfer) as problem:
        return f"{type(problem).__name__}: {problem}"
    return None if (status, body, version) == (200, ANSWER, "TLSv1.3") else f"answered {status} over {version}"


LUA = """wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["Content-Type"] = "application/json"
%s
function done(summary, latency, requests)
    io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, summary.errors.connect,
        summary.errors.read, summary.errors.write, summary.errors.status, summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


def load(peer, directory, seconds, connections):
    script = directory / "wrk.lua"
    script.write_text(LUA % (BODY, "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in peer.headers.items())))
    done = subprocess.run([*pin(OTHER_CPUS), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"https://127.0.0.1:{peer.port}/v1/chat/completions"],
                          capture_output=True, text=True, env={**os.environ, "OPENSSL_CONF": str(directory / "openssl.cnf")}, check=True)
    numbers = [int(number) for number in re.search(r"RESULT (.*)", done.stdout)[1].split()]
    return dict(zip(("requests", "duration_us", "connect", "read", "write", "status", "timeout", "p50_us", "p99_us"), numbers))


def measure(peer, directory, seconds, connections):
    before, asked = peer.cpu_seconds(), peer.redis.commands() if peer.redis else 0
    result = load(peer, directory, seconds, connections)
    result["redis"] = (peer.redis.commands() - asked) / max(1, result["requests"]) if peer.redis else None
    result["cpu_us"] = (peer.cpu_seconds() - before) * 1e6 / max(1, result["requests"])
    problems = {name: result[name] for name in ("connect", "read", "write", "status", "timeout") if result[name]}
    if problems or not result["requests"]:
        peer.void = f"errors under load: {problems}"
    return result


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def report(peers, options):
    rows, medians = [], {}
    for peer in peers:
        row = {"name": peer.name, "void": peer.void}
        if not peer.void:
            row["cpu_us_per_request"] = spread([result["cpu_us"] for result in peer.rounds])
            row["requests_per_second"] = spread([result["requests"] * 1e6 / result["duration_us"] for result in peer.rounds])
            row["p50_us"], row["p99_us"] = (spread([result[name] for result in peer.rounds]) for name in ("p50_us", "p99_us"))
            if peer.redis:
                row["redis_commands_per_request"] = spread([result["redis"] for result in peer.rounds])
            medians[peer.name] = row["cpu_us_per_request"]["median"]
        rows.append(row)
    print(f"\n{'':<28}{'CPU per request':>17}{'(least - most)':>19}{'requests/s':>12}{'p50':>9}{'p99':>9}{'to floor':>10}{'to haproxy':>12}{'to nginx':>10}{'redis/request':>15}")
    for row in rows:
        if row["void"]:
            print(f"{row['name']:<28}void: {row['void']}")
            continue
        cpu = row["cpu_us_per_request"]
        for name in ("floor", "haproxy", "nginx"):
            row[f"ratio_to_{name}"] = cpu["median"] / medians[name] if name in medians else None
        shown = [f"{row[f'ratio_to_{name}']:.2f}" if name in medians else "-" for name in ("floor", "haproxy", "nginx")]
        redis = f"{row['redis_commands_per_request']['median']:.4f}" if "redis_commands_per_request" in row else "-"
        print(f"{row['name']:<28}{cpu['median']:>14.1f} us{cpu['least']:>9.1f} -{cpu['most']:>7.1f} {row['requests_per_second']['median']:>12.0f}"
              f"{row['p50_us']['median']:>6.0f} us{row['p99_us']['median']:>6.0f} us{shown[0]:>10}{shown[1]:>12}{shown[2]:>10}{redis:>15}")
    versions = {name: subprocess.run([name, flag], capture_output=True, text=True) for name, flag in (("nginx", "-v"), ("haproxy", "-v"), ("openssl", "version"))}
    told = {"rounds": options.rounds, "seconds": options.seconds, "connections": options.connections, "cipher": CIPHER, "body_bytes": len(BODY),
            "answer_bytes": len(ANSWER), "processors": os.cpu_count(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {name: (done.stdout + done.stderr).splitlines()[0] for name, done in versions.items()}, "rows": rows}
    pathlib.Path(options.json).write_text(json.dumps(told, indent=1) + "\n")
    print(f"\nwritten to {options.json}")
    return all(row["void"] is None for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", default=os.path.join(harness.BUILD, "bench.json"))
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
    directory.chmod(0o755)
    chain, _ = harness.make_certificate(str(directory))
    key = harness.make_key(str(directory / "keys.yaml"), "bench")
    issuer = Issuer()
    (directory / "jwks.json").write_text(issuer.jwks_text())
    (directory / "openssl.cnf").write_text(f"openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n[default]\nCiphersuites = {CIPHER}\nMinProtocol = TLSv1.3\n")
    backend_port = harness.free_port()
    serving = backend(directory, backend_port)
    redis = Redis(directory)
    bearer, token = {"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {issuer.token('ES256', exp=int(time.time()) + 7200, roles=['chat'])}"}
    peers, failed = [], True
    try:
        peers.append(floor_peer(directory, backend_port))
        peers.append(sallyport_peer(directory, backend_port, "sallyport", "none", {}))
        peers.append(haproxy_peer(directory, backend_port))
        peers.append(nginx_peer(directory, backend_port))
        peers.append(sallyport_peer(directory, backend_port, "sallyport + API key", "api_key", bearer))
        peers.append(sallyport_peer(directory, backend_port, "sallyport + JWT", "jwt", token))
        peers.append(sallyport_peer(directory, backend_port, "sallyport + key + limit", "api_key", bearer, limited=True))
        for mode in ("leased", "strict"):
            peers.append(sallyport_peer(directory, backend_port, f"whole policy {mode}", "jwt", token, policy=lambda config, home: whole_policy(config, home, redis, mode)))
            peers[-1].redis = redis
        for peer in peers:
            harness.wait_until(lambda: answers_rightly(peer, chain) is None or peer.name.startswith("sallyport"), 10, f"{peer.name} answers")
            peer.void = answers_rightly(peer, chain)
            if not peer.void:
                load(peer, directory, 1, options.connections)
        for number in range(options.rounds):
            for peer in peers:
                if not peer.void:
                    peer.rounds.append(measure(peer, directory, options.seconds, options.connections))
                    print(f"round {number + 1}: {peer.name}: {peer.rounds[-1]['cpu_us']:.1f} us, {peer.rounds[-1]['requests']} requests", flush=True)
        for peer in peers:
            peer.void = peer.void or answers_rightly(peer, chain)
        failed = not report(peers, options)
    finally:
        for peer in peers:
            peer.stop()
        end(serving)
        end(redis.process)
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
