#!/usr/bin/python3
"""Mixed load on a whole gateway with Redis, while it is reloaded, its Redis restarted and its workers killed.

An honest request is one whose caller waits for the answer. It has its answer when that is what was due: 200 and the whole of it; 401 where
the credential is wrong; 200 or 429 where the caller asks for more than its limit. Anything else is lost, whatever happens meanwhile: a 5xx, a
broken connection, no answer within the client's patience. But one: what was in flight on a worker at the moment it was killed (-9). Its
connections are known from the kernel, so the losses allowed are exactly those requests; a connection of such a worker on which nothing was in
flight is a kept connection that closed, and its next request is sent on a new one, as HTTP clients do.

Memory and descriptors are compared between the second and the last quarter of the time. The oldest worker is never killed, so that what it
gathers is seen."""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import backend  # noqa: E402
import harness  # noqa: E402
import redis_nodes  # noqa: E402
from issuer import Issuer  # noqa: E402

EVERY, SAMPLE = 10.0, 1.0  # seconds between two lines, and between two looks at the processes
MEMORY_MAY_GROW, MEMORY_MAY_GROW_PART, DESCRIPTORS_MAY_GROW = 4 << 20, 0.10, 24
LARGE = "What is this? " * 15000


class ModelServer(backend.Backend):
    """Answers at once, or streams twenty events in a fifth of a second; keeps nothing of what it was sent."""

    def _serve_one(self, connection):
        request = connection.read_head()
        connection.read_body(request)
        connection.received.clear()
        wanted = json.loads(request.body or b"{}")
        if not wanted.get("stream"):
            connection.answer(body=backend.chat_answer())
            return True
        connection.begin_stream()
        for number in range(20):
            connection.chunk(backend.chat_chunk(f"word {number} "))
            time.sleep(0.01)
        connection.chunk(backend.chat_chunk(finish="stop"))
        connection.chunk("data: [DONE]\n\n")
        connection.end_stream()
        return True

    def _serve(self, connection):
        super()._serve(connection)
        with self.changed:
            self.connections.remove(connection)


class Tally:
    """What became of the requests, and what is in flight; for all threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.counts = dict.fromkeys(("asked", "answered", "limited", "unauthorized", "left", "cut", "closed", "lost"), 0)
        self.in_flight, self.killed, self.stories = {}, {}, []  # caller -> port; port -> whether a request was in flight

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def begins(self, caller, port):
        with self.lock:
            self.in_flight[caller] = port

    def ends(self, caller):
        with self.lock:
            self.in_flight.pop(caller, None)

    def why(self, port):
        """"cut", "closed" or "lost": what the end of this connection was to its request."""
        with self.lock:
            had = self.killed.pop(port, None)
            return "lost" if had is None else "cut" if had else "closed"

    def lost(self, story):
        with self.lock:
            self.counts["lost"] += 1
            self.stories.append(f"{time.strftime('%H:%M:%S')} {story}")


class Connection(harness.Client):
    """Whose port is known before anything else happens on it."""

    def __init__(self, tally, caller, gateway, context):
        self.tally, self.caller = tally, caller
        raw = harness.socket.socket()
        raw.bind(("127.0.0.1", 0))
        self.port = raw.getsockname()[1]
        raw.close()
        tally.begins(caller, self.port)
        raw = harness.socket.socket()
        raw.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_REUSEADDR, 1)
        raw.bind(("127.0.0.1", self.port))
        raw.settimeout(20)
        try:
            raw.connect(("127.0.0.1", gateway.port))
            raw.setsockopt(harness.socket.IPPROTO_TCP, harness.socket.TCP_NODELAY, 1)
            self.sock = context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False, do_handshake_on_connect=False)
            self.sock.do_handshake()
        except BaseException:
            raw.close()
            raise
        self.pending, self.ended = bytearray(), None


class Caller(threading.Thread):
    """Asks the same again and again on one connection, or each time on a new one."""

    def __init__(self, soak, name, body, credential, due=(200,), fresh=False, pause=0.02):
        super().__init__(name=name, daemon=True)
        self.soak, self.tally, self.body, self.due, self.fresh, self.pause = soak, soak.tally, body, due, fresh, pause
        self.headers = {"content-type": "application/json", **({"authorization": f"Bearer {credential}"} if credential else {})}
        self.connection, self.port, self.asked = None, None, 0

    def run(self):
        while not self.tally.over.is_set():
            self.tally.count("asked")
            while not self.once():
                pass
            if self.fresh:
                self.leave()
            time.sleep(self.pause)
        self.leave()

    def leave(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def once(self):
        """False when it has to be asked again: its connection was one that stood idle on a worker that was killed."""
        try:
            if not self.connection:
                self.connect()
            self.tally.begins(self, self.port)
            response = self.connection.request("POST", "/v1/chat/completions", headers=self.headers, body=self.body)
            self.judge(response)
        except (OSError, harness.BrokenTransfer) as problem:
            self.leave()
            why = self.tally.why(self.port)
            if why == "lost":
                self.tally.lost(f"{self.name}: {type(problem).__name__}: {problem}")
            else:
                self.tally.count(why)
            return why != "closed"
        finally:
            self.tally.ends(self)
        return True

    def connect(self):
        connection = Connection.__new__(Connection)
        try:
            connection.__init__(self.tally, self, self.soak.gateway, self.soak.context)
        finally:
            self.port = getattr(connection, "port", None)
        self.connection = connection

    def judge(self, response):
        whole = response.status != 200 or response.body.endswith(b"data: [DONE]\n\n") or response.body.endswith(b"}")
        if response.status not in self.due or not whole:
            self.tally.lost(f"{self.name}: {response}")
        else:
            self.tally.count({401: "unauthorized", 429: "limited"}.get(response.status, "answered"))
        if response.header("connection") == "close":
            self.leave()


class Leaver(Caller):
    """Asks for a stream and goes before its end; nobody waits for what it asked."""

    def once(self):
        try:
            self.connect()
            self.connection.send_request("POST", "/v1/chat/completions", headers=self.headers, body=self.body)
            self.connection.read_until(b"word 3")
            self.connection.reset()
        except (OSError, harness.BrokenTransfer):
            self.leave()
        finally:
            self.tally.ends(self)
        self.connection = None
        self.tally.count("left")
        return True


# ---- What is done to the gateway ----

def peer_ports(pid):
    """The other ends of a process' TCP connections on the loopback."""
    sockets = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    with open("/proc/net/tcp") as file:
        fields = [line.split() for line in file.read().splitlines()[1:]]
    return {int(field[2].split(":")[1], 16) for field in fields if f"socket:[{field[9]}]" in sockets}


class Soak:
    def __init__(self, minutes):
        self.seconds, self.tally, self.problems = minutes * 60, Tally(), []
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-soak-"))
        self.directory.chmod(0o777)
        self.server, self.redis = ModelServer(), redis_nodes.Server(self.directory, redis_nodes.STORE)
        self.issuer = Issuer()
        harness.make_certificate(str(self.directory))
        self.key = harness.make_key(str(self.directory / "keys.yaml"), "soak", roles=("chat",))
        self.greedy = harness.make_key(str(self.directory / "keys.yaml"), "greedy", roles=("greedy",))
        (self.directory / "jwks.json").write_text(self.issuer.jwks_text())
        self.gateway = harness.Gateway(self.directory, self.configuration())
        self.context = harness.tls_context(self.gateway.cafile)
        self.happened, self.samples = dict.fromkeys(("reloads", "redis restarts", "workers killed"), 0), []

    def configuration(self):
        huge = {"requests": "100000/s", "request_burst": 100000, "tokens": "60000000/s", "token_burst": 100000000, "concurrency": 1000}
        config = {
            "version": 1, "workers": 2, "drain_timeout": "10s",
            "listeners": [{"address": f"127.0.0.1:{harness.free_port()}", "certificates": [{"chain": "server.pem", "key": "server.key"}], "protocols": ["http/1.1"]}],
            "redis": {"url": f"redis://{self.redis.address}"},
            "issuers": [{"issuer": self.issuer.name, "audience": ["inference"], "jwks": "jwks.json", "algorithms": ["ES256"]}], "api_keys": "keys.yaml",
            "limits": {"leased": {"by": ["subject"], **huge}, "strict": {"by": ["subject"], **huge, "mode": "strict"},
                       "small": {"by": ["subject"], "requests": "5/s", "request_burst": 5, "mode": "strict"}},
            "roles": {"chat": {"models": ["*"], "limits": ["leased"]}, "exact": {"models": ["*"], "limits": ["strict"]}, "greedy": {"models": ["*"], "limits": ["small"]}},
            "pools": {"main": {"servers": [{"url": self.server.url}], "queue": {"depth": 64, "timeout": "10s"}}}, "models": {"demo": {"pool": "main"}},
            "routes": [{"name": "all", "path": "/v1/", "authenticate": ["jwt", "api_key"], "roles": ["chat", "exact", "greedy"], "models": "body"}],
            "admin": {"socket": "admin.sock", "metrics": f"127.0.0.1:{harness.free_port()}"}, "logs": {"access": "access.log", "level": "info"},
        }
        if os.geteuid() == 0:
            config["user"] = "nobody"
        return config

    def callers(self):
        def body(**more):
            return json.dumps({**harness.CHAT, **more}).encode()
        token = {role: self.issuer.token("ES256", exp=int(time.time()) + 86000, roles=[role], sub=role) for role in ("chat", "exact")}
        yield Caller(self, "plain by token", body(), token["chat"])
        yield Caller(self, "plain by key", body(), self.key)
        yield Caller(self, "strictly limited", body(), token["exact"])
        yield Caller(self, "new connections", body(), self.key, fresh=True)
        for number in range(3):
            yield Caller(self, f"stream {number}", body(stream=True), token["chat"])
        yield Caller(self, "large prompt", body(messages=[{"role": "user", "content": LARGE}]), token["chat"], pause=0.1)
        yield Caller(self, "wrong key", body(), self.key[:-1] + ("A" if self.key[-1] != "A" else "B"), due=(401,))
        yield Caller(self, "wrong token", body(), token["chat"][:-8] + "AAAAAAAA", due=(401,), fresh=True)
        yield Caller(self, "no credential", body(), None, due=(401,))
        yield Caller(self, "greedy", body(), self.greedy, due=(200, 429))
        yield Leaver(self, "leaver", body(stream=True), token["chat"], pause=0.05)

    def reload(self):
        limits = self.gateway.config["limits"]
        limits["small"]["request_burst"] = 11 - limits["small"]["request_burst"]
        done = self.gateway.reload()
        if done.returncode != 0:
            self.problems.append(f"a reload failed: {done.stderr}")
        self.happened["reloads"] += 1

    def restart_redis(self):
        self.redis.kill()
        self.tally.over.wait(1.0)  # while it is away, answers come all the same
        self.redis.start()
        self.happened["redis restarts"] += 1

    def kill_worker(self):
        """The youngest. It is stopped first: what is in flight on it then is what may be lost."""
        workers = sorted(self.gateway.workers(), key=harness.start_time)
        if len(workers) < 2:
            self.problems.append(f"only {len(workers)} of 2 workers are there")
            return
        os.kill(workers[-1], signal.SIGSTOP)
        ports = peer_ports(workers[-1])
        with self.tally.lock:
            flying = set(self.tally.in_flight.values())
            self.tally.killed = {port: port in flying for port in ports}
        os.kill(workers[-1], signal.SIGKILL)
        self.happened["workers killed"] += 1
        harness.wait_until(lambda: len(self.gateway.workers()) == 2 and workers[-1] not in self.gateway.workers(), 15, "a killed worker is replaced")

    def disturb(self):
        """One thing after the other, with a quiet moment after each."""
        while True:
            for act in (self.reload, self.kill_worker, self.restart_redis, self.reload):
                if self.tally.over.wait(max(3.0, min(15.0, self.seconds / 20))):
                    return
                try:
                    act()
                except (AssertionError, OSError) as problem:
                    self.problems.append(f"{act.__name__}: {problem}")

    # ---- What is looked at ----

    def sample(self):
        """Memory and descriptors by role; of the workers, all and the oldest."""
        found = {}
        workers = sorted(self.gateway.workers(), key=harness.start_time)
        of = {"supervisor": [self.gateway.process.pid], "control": self.gateway.pids("control"),
              "workers": workers, "oldest worker": workers[:1]}
        for role, pids in of.items():
            try:
                memory = sum(int(re.search(r"^VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1]) * 1024 for pid in pids)
                found[role] = {"memory": memory, "descriptors": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)}
            except (OSError, TypeError):  # it ended meanwhile
                continue
        self.samples.append((time.monotonic() - self.began, found))

    def line(self):
        at, found = self.samples[-1]
        roles = ", ".join(f"{role} {one['memory'] / 2**20:.1f} MiB {one['descriptors']} fds" for role, one in found.items())
        told = {**self.tally.counts, **self.happened}
        print(f"{at:6.0f} s: {roles}; {', '.join(f'{name} {count}' for name, count in told.items())}", flush=True)

    def growth(self, role, what):
        """The most in the second and in the last quarter."""
        end = self.samples[-1][0]
        quarters = [[found[role][what] for at, found in self.samples if role in found and number * end / 4 <= at <= (number + 1) * end / 4] for number in (1, 3)]
        return [max(values) if values else 0 for values in quarters]

    def run(self):
        self.gateway.start()
        self.began = time.monotonic()
        threads = [*self.callers(), threading.Thread(target=self.disturb, name="disturbance", daemon=True)]
        for thread in threads:
            thread.start()
        told = 0.0
        while time.monotonic() - self.began < self.seconds:
            time.sleep(SAMPLE)
            self.sample()
            if time.monotonic() - self.began >= told + EVERY:
                told += EVERY
                self.line()
        self.tally.over.set()
        harness.join(threads)
        self.line()

    def stop(self):
        try:
            self.gateway.stop()
        except AssertionError as problem:
            self.problems.append(f"it does not end well: {problem}"[:2000])
            self.gateway.kill()

    def verdicts(self):
        """(promise, whether it was kept, what was found)."""
        counts = self.tally.counts
        yield "no honest request is lost", counts["lost"] == 0, f"{counts['lost']} of {counts['asked']}; {counts['cut']} were in flight on killed workers" + "".join(
            f"\n    {story}" for story in self.tally.stories[:20])
        kinds = ("answered", "limited", "unauthorized", "left")
        yield "every kind of request was there", all(counts[kind] for kind in kinds), ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
        yield "everything was done to it", all(self.happened.values()), ", ".join(f"{count} {name}" for name, count in self.happened.items())
        for role in ("supervisor", "control", "oldest worker"):
            before, after = self.growth(role, "memory")
            kept = after <= before + max(MEMORY_MAY_GROW, MEMORY_MAY_GROW_PART * before)
            yield f"{role}: memory does not grow", kept, f"{before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB"
            before, after = self.growth(role, "descriptors")
            yield f"{role}: descriptors do not gather", after <= before + DESCRIPTORS_MAY_GROW, f"{before}, then {after}"
        yield "it bears all this and ends well", not self.problems, "; ".join(self.problems) or "no complaints"

    def clean_up(self):
        redis_nodes.stop_all()
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--json", help="where samples and verdicts are written")
    options = parser.parse_args()
    soak = Soak(options.minutes)
    try:
        try:
            soak.run()
        finally:
            soak.stop()
        verdicts = list(soak.verdicts())
    finally:
        soak.clean_up()
    for promise, kept, found in verdicts:
        print(f"{'ok' if kept else 'FAILED'} soak: {promise} ({found})")
    if options.json:
        told = {"minutes": options.minutes, "counts": soak.tally.counts, "done_to_it": soak.happened, "samples": soak.samples,
                "verdicts": [{"promise": promise, "kept": kept, "found": found} for promise, kept, found in verdicts]}
        pathlib.Path(options.json).write_text(json.dumps(told, indent=1) + "\n")
    return 0 if all(kept for _, kept, _ in verdicts) else 1


sys.exit(main())
