"""What all works stand on: certificate, credentials, backends, the client, and peers that are started, asked once, and taken down."""
import json
import os
import pathlib
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time

import peers
from peers import ANSWER, CIPHER, GROUP, OTHER_CPUS, ROOT

sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import harness  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: E402
from issuer import Issuer  # noqa: E402

SMALL = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "x" * 440}]})
LARGE = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "What is this? " * 15640}]})  # 214 KiB


class Failed(Exception):
    """What is measured would mean nothing: this voids a row."""


class Load:
    """bench/load.c: stands ready, then runs as often as it is told to."""

    def __init__(self, rig, port, *options, headers=None, body=SMALL, nice=None, ready=120):
        path = rig.file(body)
        lines = [part for name, value in {"content-type": "application/json", **(headers or {})}.items() for part in ("--header", f"{name}: {value}")]
        before = ["nice", "-n", str(nice)] if nice and os.geteuid() == 0 else []
        self.process = peers.spawn([*before, rig.load, "--body", str(path), *lines, *map(str, options), str(port)], OTHER_CPUS, rig.directory, "load",
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.line(ready)
        except Failed:
            self.close()
            raise

    def line(self, within):
        if not select.select([self.process.stdout], [], [], within)[0]:
            raise Failed(f"the client is not done within {within} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed("the client ended")
        return line

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self, within=900):
        return json.loads(self.line(within))

    def run(self):
        """One run, all of whose requests were answered with 200."""
        self.begin()
        result = self.finish()
        wrong = {name: result[name] for name in ("refused", "broken", "unanswered", "unconnected") if result[name]}
        if wrong:
            raise Failed(f"under load: {wrong}")
        return result

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Rig:
    def __init__(self, options):
        self.options, self.taken_down, self.files = options, [], {}
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
        self.directory.chmod(0o755)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.credentials()
        self.load, self.source = peers.build(self.directory, "load", "asking.c"), peers.build(self.directory, "source")
        (self.directory / "answer.json").write_text(ANSWER)
        self.backend_port = harness.free_port()
        serving = peers.backend(self.directory, self.backend_port)
        self.redis = peers.Redis(self.directory)
        self.taken_down += [lambda: peers.end(serving), lambda: peers.end(self.redis.process)]

    def credentials(self):
        self.chain, _ = harness.make_certificate(str(self.directory))
        self.key = harness.make_key(str(self.directory / "keys.yaml"), "bench")
        self.issuer = Issuer()
        (self.directory / "jwks.json").write_text(self.issuer.jwks_text())
        for name, key in (("es", "p256"), ("rs", "rsa")):
            public = self.issuer.keys.private[key].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (self.directory / f"{name}.pem").write_bytes(public)
        secret = self.directory / "batch.secret"
        secret.write_text(os.urandom(24).hex())
        secret.chmod(0o600)
        self.bearer_key = {"authorization": f"Bearer {self.key}"}
        self.bearer_token = {"authorization": f"Bearer {self.token('ES256')}"}
        # wrk takes its cipher and key exchange from here.
        (self.directory / "openssl.cnf").write_text(f"openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n[default]\n"
                                                    f"Ciphersuites = {CIPHER}\nGroups = {GROUP}\nMinProtocol = TLSv1.3\n")

    def token(self, algorithm, **claims):
        return self.issuer.token(algorithm, exp=int(time.time()) + 7200, roles=["chat"], **claims)

    def file(self, text):
        if text not in self.files:
            self.files[text] = self.directory / f"text-{len(self.files)}"
            self.files[text].write_text(text)
        return self.files[text]

    def start_source(self, events=0):
        port = harness.free_port()
        process = peers.spawn([self.source, str(port), str(self.directory / "answer.json"), str(events)], OTHER_CPUS, self.directory, f"source-{events}")
        self.taken_down.append(lambda: peers.end(process))
        return port

    def add(self, peer, ready=True):
        """It answers, or its row is void."""
        if ready:
            until = time.monotonic() + 10
            while (problem := self.problem(peer)) and time.monotonic() < until and "answered" not in problem:
                time.sleep(0.05)
            peer.void = problem
        return peer

    def remove(self, *gone):
        """Takes down peers before the end."""
        for peer in gone:
            peer.take_down()

    def problem(self, peer):
        """What is wrong with its answer to one request; None when nothing is."""
        try:
            with harness.Client(peer.port, self.chain) as client:
                response = client.request("POST", "/v1/chat/completions", body=SMALL.encode(), headers={"Content-Type": "application/json", **peer.headers})
                version, cipher = client.sock.version(), client.sock.cipher()[0]
        except (OSError, harness.BrokenTransfer) as problem:
            return f"{type(problem).__name__}: {problem}"
        return None if (response.status, response.body.decode(), version) == (200, ANSWER, "TLSv1.3") else f"answered {response.status} over {version}, {cipher}"

    def stop(self):
        left = [*self.taken_down, *(peer.take_down for peer in peers.running)]
        while left:
            try:
                left.pop()()
            except (AssertionError, OSError, subprocess.TimeoutExpired) as problem:
                print(f"bench: {problem}", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)
