"""What every black-box test stands on: a gateway that is started, watched and stopped as an operator would, and a client that
sends exactly the bytes it is told to."""
import glob
import json
import os
import random
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

import watchdog
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.path.join(ROOT, os.environ.get("SALLYPORT_BUILD", "build")))
SANITIZED = "sanitize" in os.environ.get("SALLYPORT_KIND", "")
SLOWER = 4 if SANITIZED else 1  # patience, not promises: no assertion measures time with it


def program(name="sallyport"):
    found = [path for path in glob.glob(os.path.join(BUILD, "src", "*", name)) if os.access(path, os.X_OK)]
    if not found:
        raise RuntimeError(f"{name} is not built in {BUILD}")
    return found[0]


def wait_until(condition, within=5.0, what="the condition"):
    until = time.monotonic() + within * SLOWER
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"{what() if callable(what) else what}: not within {within * SLOWER:g} s")
        time.sleep(0.005)


def join(threads, within=60):
    """Waits for their end; whoever does not end is named with the place where it stands."""
    until = time.monotonic() + within * SLOWER
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    stuck = [thread for thread in threads if thread.is_alive()]
    frames = sys._current_frames()
    assert not stuck, "\n".join(f"{thread.name} did not end:\n" + "".join(traceback.format_stack(frames[thread.ident])) for thread in stuck)


def put_down(process, number=signal.SIGKILL, within=10):
    """Ends a process that a test started; its exit status. One that does not go is killed, and the test hears what it was doing."""
    if process.poll() is None:
        process.send_signal(number)
    return ended(process, within, f"{process.args[0]} does not end on {signal.Signals(number).name}")


def ended(process, within, what):
    """The exit status of a process that is about to end."""
    try:
        return process.wait(within * SLOWER)
    except subprocess.TimeoutExpired:
        story = watchdog.story(process.pid)
        watchdog.kill(watchdog.tree(process.pid))
        raise AssertionError(f"{what} within {within * SLOWER} s\n{story}") from None


class Lines:
    """What a process writes, line by line, none waited for longer than `within`."""

    def __init__(self, stream):
        self.fd, self.pending = stream.fileno(), b""

    def next(self, within=30):
        """"" at the end."""
        until = time.monotonic() + within * SLOWER
        while b"\n" not in self.pending:
            if not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"no line within {within * SLOWER} s; had {self.pending!r}")
            piece = os.read(self.fd, 65536)
            if not piece:
                line, self.pending = self.pending, b""
                return line.decode()
            self.pending += piece
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode() + "\n"


# Below where the kernel takes the ports of outgoing connections from: one that waits to be listened on is taken by none of those.
PORTS, PORTS_AT_A_TIME = range(10000, 32700), 100
_ports = []
_blocks = []  # sockets by whose names, of this machine, other processes see which ports are ours; gone with this process


def _take_ports():
    while True:
        first = random.randrange(PORTS.start, PORTS.stop, PORTS_AT_A_TIME)
        block = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            block.bind(f"\0sallyport-test-ports-{first}")
        except OSError:
            block.close()
            continue
        _blocks.append(block)
        _ports.extend(range(first, first + PORTS_AT_A_TIME))
        return


def free_port():
    """A port nobody has, and that neither this process nor another that asks this way gives out again."""
    while True:
        if not _ports:
            _take_ports()
        port = _ports.pop()
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
                return port
            except OSError:
                continue


def command(*arguments, check=False, timeout=30, **more):
    """Runs `sallyport ARGUMENTS`; stdout and stderr as text."""
    return subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True, check=check, timeout=timeout * SLOWER, **more)


def make_certificate(directory, name="localhost", stem="server"):
    chain, key = os.path.join(directory, stem + ".pem"), os.path.join(directory, stem + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", key, "-out", chain],
                   check=True, capture_output=True, timeout=60 * SLOWER)
    os.chmod(key, 0o600)
    return chain, key


def make_key(keys_file, name, roles=("user",), tenant=None, expires=None):
    more = [part for role in roles for part in ("--role", role)]
    more += ["--tenant", tenant] if tenant else []
    more += ["--expires", expires] if expires else []
    made = command("key", "new", "--file", keys_file, "--name", name, *more)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert re.fullmatch(r"sp_[0-9A-Za-z]{8}_[0-9A-Za-z_-]{49}", secret), "`key new` prints the secret alone"
    return secret


# ---- The client ----

class BrokenTransfer(Exception):
    def __init__(self, why, response=None):
        super().__init__(why)
        self.response = response


class Response:
    def __init__(self, status, headers, version="HTTP/1.1"):
        self.status, self.headers, self.version = status, headers, version
        self.body = b""
        self.interim = []
        self.complete = False

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name):
        found = self.all(name)
        return found[0] if found else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


def tls_context(cafile=None, alpn=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cafile:
        context.load_verify_locations(cafile)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Client:
    """One TLS connection. Every byte it sends was written in the test."""

    def __init__(self, port, cafile=None, server_name="localhost", timeout=15.0, receive_buffer=None, context=None, session=None, source=None):
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            raw.bind((source, 0))
        raw.settimeout(timeout * SLOWER)
        raw.connect(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = context or tls_context(cafile)
        try:
            self.sock = context.wrap_socket(raw, server_hostname=server_name, suppress_ragged_eofs=False, session=session,
                                            do_handshake_on_connect=False)
            self.sock.do_handshake()  # wrap_socket() says nothing of a socket that was reset before
        except BaseException:
            raw.close()
            raise
        self.pending = bytearray()
        self.ended = None  # "clean": close_notify came; "cut": the connection ended without

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        import struct
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def _more(self):
        if self.ended:
            return False
        try:
            piece = self.sock.recv(65536)
        except (ssl.SSLEOFError, ConnectionError):
            self.ended = "cut"
            return False
        if not piece:
            self.ended = "clean"
            return False
        self.pending += piece
        return True

    def read_until(self, mark):
        while mark not in self.pending:
            if not self._more():
                raise BrokenTransfer(f"ended ({self.ended}) before {mark!r}; had {bytes(self.pending[:200])!r}")
        end = self.pending.index(mark) + len(mark)
        piece = bytes(self.pending[:end])
        del self.pending[:end]
        return piece

    def read_exactly(self, count):
        while len(self.pending) < count:
            if not self._more():
                raise BrokenTransfer(f"ended ({self.ended}) after {len(self.pending)} of {count} bytes")
        piece = bytes(self.pending[:count])
        del self.pending[:count]
        return piece

    def read_to_end(self):
        while self._more():
            pass
        piece = bytes(self.pending)
        self.pending.clear()
        return piece

    def at_end(self):
        """Waits for the end of the connection; how it ended. Anything but the end is a failure."""
        assert not self.pending and not self._more(), f"more came: {bytes(self.pending[:200])!r}"
        return self.ended

    def read_head(self):
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        lines = head.split("\r\n")
        version, status, _ = (lines[0] + " ").split(" ", 2)
        return Response(int(status), [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line], version)

    def read_chunk(self):
        size = int(self.read_until(b"\r\n").split(b";")[0], 16)
        if size == 0:
            self.read_until(b"\r\n")
            return b""
        return self.read_exactly(size + 2)[:-2]

    def read_response(self, method="GET"):
        interim = []
        while True:
            response = self.read_head()
            if response.status >= 200:
                break
            interim.append(response.status)
        response.interim = interim
        try:
            self._read_body(response, method)
        except BrokenTransfer as broken:
            broken.response = response
            raise
        response.complete = True
        return response

    def _read_body(self, response, method):
        if method == "HEAD" or response.status in (204, 304):
            return
        if response.header("transfer-encoding"):
            while True:
                chunk = self.read_chunk()
                if not chunk:
                    return
                response.body += chunk
        elif response.header("content-length") is not None:
            response.body = self.read_exactly(int(response.header("content-length")))
        else:
            response.body = self.read_to_end()
            if self.ended != "clean":
                raise BrokenTransfer("cut before close_notify")

    def send_request(self, method="GET", path="/v1/models", headers=(), body=None, key=None, host="localhost"):
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.append(("Content-Type", "application/json"))
        if key:
            headers.append(("Authorization", f"Bearer {key}"))
        if body is not None:
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"] + [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    def request(self, method="GET", path="/v1/models", headers=(), body=None, key=None, host="localhost"):
        self.send_request(method, path, headers, body, key, host)
        return self.read_response(method)


CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}


# ---- The gateway ----

class Plain(yaml.SafeDumper):
    """Writes every value out where it is used: the configuration takes no anchors."""

    def ignore_aliases(self, data):
        return True


def process_name(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            first = file.read().split(b"\0")[0].decode()
        return os.path.basename(first.split(":")[0].split(" ")[0])
    except OSError:
        return ""


def start_time(pid):
    """Tells one process from a later one with the same number; None when it is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


REPORT = re.compile(r"ERROR: (Address|Leak|Undefined\w*|Memory)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


class Gateway:
    """`sallyport run` in a directory of its own."""

    def __init__(self, directory, config, environment=None):
        self.directory, self.config = str(directory), config
        self.path = os.path.join(self.directory, "sallyport.yaml")
        self.environment = environment
        self.process = None
        self.seen = {}  # pid → start time, of every process it ever had
        self.write()

    # -- what a configuration says --
    @property
    def port(self):
        return int(self.config["listeners"][0]["address"].rsplit(":", 1)[1])

    @property
    def metrics_port(self):
        return int(self.config["admin"]["metrics"].rsplit(":", 1)[1])

    @property
    def access_log(self):
        return os.path.join(self.directory, self.config["logs"]["access"])

    @property
    def cafile(self):
        return os.path.join(self.directory, self.config["listeners"][0]["certificates"][0]["chain"])

    def write(self, text=None):
        with open(self.path + ".new", "w") as file:
            file.write(text if text is not None else yaml.dump(self.config, Dumper=Plain, sort_keys=False))
        os.rename(self.path + ".new", self.path)

    # -- its life --
    def launch(self):
        self.stdout = open(os.path.join(self.directory, "stdout"), "ab")
        self.stderr = open(os.path.join(self.directory, "stderr"), "ab")
        self.process = subprocess.Popen([program(), "run", "--config", self.path], stdout=self.stdout, stderr=self.stderr,
                                        stdin=subprocess.DEVNULL, env={**os.environ, **(self.environment or {})})
        return self

    def start(self):
        self.launch()
        wait_until(self._ready_or_dead, 10, "the gateway is ready")
        status = self.process.poll()
        if status is not None:
            self.check_remains()
            raise AssertionError(f"exit status {status}\n{self.errors()}")
        self.remember()
        return self

    def _ready_or_dead(self):
        return self.process.poll() is not None or self.is_ready()

    def is_ready(self):
        return self.admin("/readyz")[0] == 200

    def admin(self, path, method="GET"):
        """(status, body) from the metrics address; (0, "") when nobody answers."""
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.metrics_port}{path}", method=method), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, ValueError):
            return 0, ""

    def remember(self):
        for pid in children(self.process.pid):
            if start_time(pid):
                self.seen.setdefault(pid, start_time(pid))

    def pids(self, role):
        self.remember()
        return [pid for pid in children(self.process.pid) if start_time(pid) and process_name(pid) == f"sallyport-{role}"]

    def workers(self):
        return self.pids("worker")

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, within=15):
        """TERM, and a clean end: exit status 0, no process left, no sanitizer report."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.remember()
            self.signal(signal.SIGTERM)
        status = self.ended(within, "TERM does not end it")
        self.check_remains()
        assert status == 0, f"exit status {status}\n{self.errors()}"

    def ended(self, within=10, what="the gateway does not end"):
        """Its exit status. If it does not come, all of it is killed, and the failure tells what it was doing."""
        try:
            return ended(self.process, within, what)
        except AssertionError as problem:
            self.kill()
            raise AssertionError(f"{problem}\n{self.connections()}\n{self.errors()[-4000:]}") from None

    def check_remains(self):
        left = [pid for pid, started in self.seen.items() if not self._gone(pid, started)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.stdout.close()
        self.stderr.close()
        self.process = None
        assert not left, f"processes left behind: {left}"
        report = REPORT.search(self.errors())
        assert not report, self.errors()[max(0, report.start() - 200):][:6000]

    @staticmethod
    def _gone(pid, started):
        until = time.monotonic() + 3 * SLOWER
        while start_time(pid) == started:
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def kill(self):
        """Ends all of it at once, whatever it was doing; for the way out of a failed test."""
        self.remember()
        put_down(self.process)
        for pid, started in self.seen.items():
            if start_time(pid) == started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    # -- what it says --
    def connections(self):
        """What the kernel knows of the connections of its processes."""
        pids = {str(pid) for pid in [self.process.pid, *self.seen]}
        try:
            shown = subprocess.run(["ss", "-tinmopOH"], capture_output=True, text=True, timeout=20).stdout
        except (OSError, subprocess.TimeoutExpired) as problem:
            return f"no list of connections: {problem}"
        return "\n".join([line for line in shown.splitlines() if pids & set(re.findall(r"pid=(\d+)", line))][:40])

    def errors(self):
        with open(os.path.join(self.directory, "stderr"), errors="replace") as file:
            return file.read()

    def log_lines(self):
        try:
            with open(self.access_log) as file:
                text = file.read()
                return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        except FileNotFoundError:
            return []

    def logged(self, request_id, within=5):
        """The access-log line of one request."""
        return wait_until(lambda: next((line for line in self.log_lines() if line["request_id"] == request_id), None), within,
                          f"request {request_id} is in the access log")

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.admin("/metrics")[1].splitlines():
            match = re.fullmatch(r'([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)', line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
                if all(found.get(key) == value for key, value in labels.items()):
                    total += float(match[3])
        return total

    # -- what it is asked --
    def client(self, **more):
        return Client(self.port, self.cafile, **more)

    def ask(self, method="GET", path="/v1/models", **more):
        with self.client() as client:
            return client.request(method, path, **more)

    def ctl(self, *arguments):
        return command("ctl", *arguments, "--socket", os.path.join(self.directory, "admin.sock"))

    def reload(self):
        """Writes the configuration, asks for a reload and waits for the verdict."""
        self.write()
        return self.ctl("reload")
