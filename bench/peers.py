"""The programs that are compared: each with the same certificate, cipher, key exchange and backend, one worker or thread, on a processor of its own."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import harness  # noqa: E402

ANSWER = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": {
    "role": "assistant", "content": "fixed " * 40}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}})
CIPHER, GROUP = "TLS_AES_128_GCM_SHA256", "X25519"
CONNECTIONS = 12000  # what each is told to bear
MANY = os.cpu_count() > 1 and shutil.which("taskset")
PROXY_CPU, OTHER_CPUS = "0", f"1-{os.cpu_count() - 1}"
NGINX_MODULES = "/usr/lib/nginx/modules"


def pin(cpus):
    """Keeps the proxy on one processor and client and backend on the others, where there is more than one."""
    return ["taskset", "-c", cpus] if MANY else []


def spawn(command, cpus, directory, name, **more):
    with open(directory / f"{name}.log", "wb") as log:
        return subprocess.Popen([*pin(cpus), *command], **{"stdout": log, "stderr": log, **more})


def end(process):
    process.terminate()
    process.wait(20)


def family(pid):
    found = [pid]
    for child in harness.children(pid):
        found += family(child)
    return found


def build(directory, name, *sources):
    """One of the programs in bench/, in C."""
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", *(str(ROOT / "bench" / source) for source in (f"{name}.c", *sources)), "-o", str(directory / name), "-lssl", "-lcrypto"],
                   check=True)
    return str(directory / name)


running = []  # every peer that was started and not taken down, whatever became of the work it was started for


class Peer:
    """One program under load: where it listens, which processes it is, what a client must send."""

    def __init__(self, name, port, pids, stop, headers=()):
        self.name, self.port, self.pids, self.stop, self.headers = name, port, pids, stop, dict(headers)
        self.void, self.redis = None, None
        running.append(self)

    def take_down(self):
        running.remove(self)
        self.stop()

    def cpu_seconds(self):
        """What the scheduler has given to all threads of all its processes, to the nanosecond."""
        total = 0
        for pid in self.pids():
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
        return total / 1e9

    def memory(self):
        """What all its processes hold of memory, in bytes; what they share is counted once."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += int(re.search(r"^Pss:\s+(\d+) kB", file.read(), re.M)[1]) * 1024
        return total


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


# ---- nginx, as backend and as peer ----

def nginx(directory, name, cpus, servers, modules=(), workers=1):
    path = directory / f"{name}.conf"
    temporary = "\n".join(f"    {what}_temp_path {directory};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    load = "".join(f"load_module {NGINX_MODULES}/{module}.so;\n" for module in modules)
    path.write_text(f"{load}daemon off;\nworker_processes {workers};\npid {directory}/{name}.pid;\nerror_log stderr error;\n"
                    f"events {{ worker_connections {CONNECTIONS}; }}\n"
                    "http {\n    access_log off;\n    keepalive_requests 100000000;\n    keepalive_time 24h;\n    tcp_nodelay on;\n    client_body_buffer_size 1m;\n"
                    f"    client_max_body_size 8m;\n{temporary}\n{servers}\n}}\n")
    return spawn(["nginx", "-c", str(path), "-p", str(directory)], cpus, directory, name)


def backend(directory, port):
    return nginx(directory, "backend", OTHER_CPUS, f"""    server {{ listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type application/json; return 200 '{ANSWER}'; }} }}""")


def nginx_peer(directory, backend_port, name="nginx", prelude="", access="", modules=()):
    port = harness.free_port()
    file = name.replace(" ", "-").replace("+", "and")
    process = nginx(directory, file, PROXY_CPU, f"""{prelude}
    upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 1024; keepalive_requests 100000000; keepalive_time 24h; }}
    server {{ listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key;
        ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {CIPHER}; ssl_ecdh_curve {GROUP};
        location / {{ {access} proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
                      proxy_read_timeout 600s;
                      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }}""", modules)
    return Peer(name, port, lambda: family(process.pid), lambda: end(process))


def nginx_lua_peer(directory, backend_port, redis):
    """Every request is one EVALSHA of a token bucket in Redis, by client address; no credential is checked."""
    peer = nginx_peer(directory, backend_port, "nginx + Lua + Redis", prelude=f"    lua_package_path '{ROOT}/bench/?.lua;;';\n"
                      f"    init_by_lua_block {{ bucket = require('nginx_bucket').new({redis.port}) }}",
                      access="access_by_lua_block { bucket:admit(ngx.var.remote_addr) }", modules=("ndk_http_module", "ngx_http_lua_module"))
    peer.redis = redis
    return peer


# ---- HAProxy ----

HAPROXY_JWT = """    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 RS256 }}
    http-request deny deny_status 401 if {{ var(txn.alg) -m str ES256 }} !{{ var(txn.bearer),jwt_verify(txn.alg,"{es}") 1 }}
    http-request deny deny_status 401 if {{ var(txn.alg) -m str RS256 }} !{{ var(txn.bearer),jwt_verify(txn.alg,"{rs}") 1 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str https://login.tests.example }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str inference }}
    http-request set-var(txn.now) date()
    http-request set-var(txn.left) var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now)
    http-request deny deny_status 401 unless {{ var(txn.left) -m int gt 0 }}
    http-request set-var(txn.subject) var(txn.bearer),jwt_payload_query('$.sub')
    http-request track-sc0 var(txn.subject) table callers
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}"""


def haproxy_peer(directory, backend_port, name="haproxy", checks="", headers=(), tables="", tuning=""):
    port = harness.free_port()
    both = directory / "both.pem"
    both.write_text((directory / "server.pem").read_text() + (directory / "server.key").read_text())
    both.chmod(0o600)
    file = name.replace(" ", "-").replace("+", "and")
    (directory / f"{file}.cfg").write_text(f"""global
    nbthread 1
    maxconn {CONNECTIONS}
    no strict-limits
    ssl-default-bind-ciphersuites {CIPHER}
    ssl-default-bind-curves {GROUP}
{tuning}
defaults
    mode http
    backlog 4096
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend in
    maxconn {CONNECTIONS}
    bind 127.0.0.1:{port} ssl crt {both} ssl-min-ver TLSv1.3 alpn http/1.1
{checks}
    default_backend out
backend out
    server one 127.0.0.1:{backend_port}
{tables}
""")
    process = spawn(["haproxy", "-W", "-f", str(directory / f"{file}.cfg")], PROXY_CPU, directory, file)
    return Peer(name, port, lambda: family(process.pid), lambda: end(process), headers)


def haproxy_jwt_peer(directory, backend_port, headers):
    return haproxy_peer(directory, backend_port, "haproxy + JWT + table", HAPROXY_JWT.format(es=directory / "es.pem", rs=directory / "rs.pem"), headers,
                        "backend callers\n    stick-table type string len 64 size 1m expire 1m store http_req_rate(1s)")


def haproxy_model_peer(directory, backend_port):
    """It waits for the whole body and reads the model from it, as far as it can: `json_query` looks for the name and checks nothing."""
    checks = """    option http-buffer-request
    http-request set-var(txn.model) req.body,json_query('$.model')
    http-request deny deny_status 404 unless { var(txn.model) -m str demo }"""
    return haproxy_peer(directory, backend_port, "haproxy + model", checks, tuning="    tune.bufsize 262144")


# ---- The floor ----

def floor_peer(directory, backend_port):
    """bench/floor.c: what passing bytes through TLS costs when nobody looks at them."""
    port = harness.free_port()
    process = spawn([build(directory, "floor"), str(port), str(directory / "server.pem"), str(directory / "server.key"), str(backend_port), CIPHER],
                    PROXY_CPU, directory, "floor")
    return Peer("floor", port, lambda: family(process.pid), lambda: end(process))


# ---- Sallyport ----

def whole_policy(mode, redis, by=("subject",)):
    """JWT, role, model from the body, exact limits on requests and tokens shared through Redis, access log."""
    def change(config, home):
        config["redis"] = {"url": f"redis://127.0.0.1:{redis.port}", "deadline": "50ms"}
        config["roles"] = {"user": {"models": ["*"]}, "chat": {"models": ["demo*"], "limits": ["per-caller"]}}
        config["limits"] = {"per-caller": {"by": list(by), "requests": "100000/s", "request_burst": 100000, "tokens": "60000000/s",
                                           "token_burst": 100000000, "mode": mode}}
        config["models"] = {"demo": {"pool": "main"}}
        config["routes"] = [{"name": "all", "path": "/", "authenticate": ["jwt"], "roles": ["chat"], "models": "body", "request_headers": {"allow": ["x-sent"]}}]
        config["logs"]["access"] = str(home / "access.log")
    return change


def sallyport_peer(directory, backend_port, name, authenticate="none", headers=(), policy=None, workers=1, cpus=PROXY_CPU):
    home = pathlib.Path(tempfile.mkdtemp(dir=directory, prefix="sallyport-"))
    home.chmod(0o755)
    for file in ("server.pem", "server.key", "keys.yaml", "jwks.json", "batch.secret"):
        shutil.copy(directory / file, home / file)
    config = {
        "version": 1, "workers": workers, "drain_timeout": "1s",
        "listeners": [{"address": f"127.0.0.1:{harness.free_port()}", "certificates": [{"chain": "server.pem", "key": "server.key"}],
                       "protocols": ["http/1.1"], "max_connections": CONNECTIONS, "max_connections_per_address": CONNECTIONS, "idle_timeout": "600s"}],
        "issuers": [{"issuer": "https://login.tests.example", "audience": ["inference"], "jwks": "jwks.json"},
                    {"issuer": "https://batch.tests.example", "audience": ["inference"], "algorithms": ["HS256"], "secret_file": "batch.secret"}],
        "api_keys": "keys.yaml", "roles": {"user": {"models": ["*"]}}, "limits": {},
        "pools": {"main": {"servers": [{"url": f"http://127.0.0.1:{backend_port}"}], "connections": 2048}},
        "routes": [{"name": "all", "path": "/", "authenticate": [authenticate], "pool": "main", "request_headers": {"allow": ["x-sent"]}}],
        "admin": {"metrics": f"127.0.0.1:{harness.free_port()}"}, "logs": {"access": "off", "level": "warn"},
    }
    if policy:
        policy(config, home)
    if os.geteuid() == 0:
        config["user"] = "nobody"
    gateway = harness.Gateway(home, config)
    try:
        gateway.start()
    except AssertionError:
        if gateway.process:
            gateway.kill()
        raise
    for pid in family(gateway.process.pid) if MANY else ():
        subprocess.run(["taskset", "-a", "-p", "-c", cpus, str(pid)], stdout=subprocess.DEVNULL, check=False)
    return Peer(name, gateway.port, lambda: family(gateway.process.pid), gateway.stop, headers)


def key_and_limit(config, _):
    config["limits"] = {"huge": {"by": ["subject"], "requests": "1000000/s", "request_burst": 1000000, "mode": "strict"}}
    config["routes"][0]["limits"] = ["huge"]
