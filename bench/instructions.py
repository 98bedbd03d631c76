#!/usr/bin/python3
"""Instructions per request of one worker under callgrind, for fixed cases: the same on a busy machine as on a quiet one.

Counted are those of our own program; what OpenSSL and libc need depends on the processor, and is shown beside it. Each case runs twice with
different numbers of requests on one kept connection: the difference is what a request costs, without start, handshake and end."""
import argparse
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import harness  # noqa: E402
from backend import Backend  # noqa: E402
from issuer import Issuer  # noqa: E402

BASELINE = ROOT / "bench" / "instructions.json"
FEW, MANY = 100, 500
ANSWER = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "fixed " * 40}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}}
LIMITS = {"requests": {"by": ["subject"], "requests": "1000000/s", "request_burst": 1000000},
          "all": {"by": ["subject"], "requests": "1000000/s", "request_burst": 1000000, "tokens": "1000000000/s", "token_burst": 1000000000, "concurrency": 1000}}


def chat(size):
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": "x" * size}]}).encode()


# name: route, credential, body
CASES = {
    "plain": ({"authenticate": ["none"]}, None, chat(440)),
    "key and limit": ({"authenticate": ["api_key"], "limits": ["requests"]}, "key", chat(440)),
    "token, model, limits, log": ({"authenticate": ["jwt"], "models": "body", "limits": ["all"]}, "token", chat(440)),
    "prompt of 200 KB": ({"authenticate": ["jwt"], "models": "body", "limits": ["all"]}, "token", chat(200000)),
}


class Gateway(harness.Gateway):
    """The whole program under callgrind; its processes write one file each."""

    def launch(self):
        plain = subprocess.Popen

        def under_callgrind(command, *rest, **more):
            return plain(["valgrind", "--tool=callgrind", "--trace-children=yes", "--vgdb=no", "-q", f"--callgrind-out-file={self.directory}/callgrind.%p", *command], *rest, **more)
        subprocess.Popen = under_callgrind
        try:
            super().launch()
        finally:
            subprocess.Popen = plain


def of_program(path):
    """Instructions by whether they are ours. The format: valgrind's manual, callgrind format specification."""
    ours = others = 0
    objects, mine, skip = {}, False, False
    with open(path) as file:
        for line in file:
            if line.startswith(("ob=", "cob=")):  # a name stands where its number comes first, be it of a callee
                number, name = re.match(r"c?ob=\((\d+)\)(?: (.*))?", line.strip()).groups()
                objects.setdefault(number, name)
                if line.startswith("ob="):
                    mine = "sallyport-worker" in objects[number]
            elif line.startswith("calls="):
                skip = True  # the next line is what was called, which counts where it stands itself
            elif re.match(r"[\d+*-]", line):
                if not skip:
                    count = int(line.split()[1])
                    ours, others = (ours + count, others) if mine else (ours, others + count)
                skip = False
    return ours, others


def run(name, requests, issuer, key, keys_file, certificate):
    route, credential, body = CASES[name]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-instructions-"))
    directory.chmod(0o777)
    backend = Backend()
    answer = json.dumps(ANSWER).encode()
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, answer))
    for file in (*certificate, keys_file):
        shutil.copy(file, directory)
    (directory / "jwks.json").write_text(issuer.jwks_text())
    pool = {} if "models" in route else {"pool": "main"}
    config = {
        "version": 1, "workers": 1, "drain_timeout": "5s",
        "listeners": [{"address": f"127.0.0.1:{harness.free_port()}", "certificates": [{"chain": "server.pem", "key": "server.key"}], "protocols": ["http/1.1"],
                       "handshake_timeout": "60s"}],
        "issuers": [{"issuer": issuer.name, "audience": ["inference"], "jwks": "jwks.json", "algorithms": ["ES256"]}], "api_keys": "keys.yaml",
        "roles": {"user": {"models": ["*"]}}, "limits": {name: LIMITS[name] for name in route.get("limits", [])},
        "pools": {"main": {"servers": [{"url": backend.url}]}}, "routes": [{"name": "all", "path": "/", **pool, **route}],
        "admin": {"metrics": f"127.0.0.1:{harness.free_port()}"}, "logs": {"access": "access.log", "level": "warn"},
    }
    if "models" in route:
        config["models"] = {"demo": {"pool": "main"}}
    if os.geteuid() == 0:
        config["user"] = "nobody"
    gateway = Gateway(directory, config)
    try:
        harness.SLOWER = 10
        gateway.start()
        headers = [("content-type", "application/json")]
        if credential:
            headers.append(("authorization", "Bearer " + (key if credential == "key" else issuer.token("ES256", exp=2000000000, iat=int(time.time())))))
        with gateway.client(timeout=120) as client:
            for _ in range(requests):
                response = client.request("POST", "/v1/chat/completions", headers=headers, body=body)
                assert response.status == 200, response
        gateway.stop(within=120)
        [worker] = [counts for counts in map(of_program, glob.glob(f"{directory}/callgrind.*")) if counts[0]]
        return worker
    finally:
        if gateway.process:
            gateway.kill()
        backend.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make these the baseline")
    parser.add_argument("--growth", type=float, default=5.0, help="percent of growth over the baseline that is a failure (5)")
    options = parser.parse_args()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-instructions-"))
    certificate = harness.make_certificate(str(directory))
    keys_file = str(directory / "keys.yaml")
    key, issuer, found, failed = harness.make_key(keys_file, "bench"), Issuer(), {}, 0
    for name in CASES:
        few, many = (run(name, n, issuer, key, keys_file, certificate) for n in (FEW, MANY))
        ours, others = ((many[i] - few[i]) // (MANY - FEW) for i in (0, 1))
        found[name] = ours
        change = 100 * (ours / baseline[name] - 1) if name in baseline else 0.0
        late = change > options.growth
        failed += late
        print(f"{'FAILED' if late else 'ok'} {name}: {ours} instructions a request in our own code ({change:+.1f} % of the baseline), {others} in libraries", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    if options.write:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failed and not options.write else 0


sys.exit(main())
