"""A model server that does whatever a test tells it to, well-behaved or hostile, and remembers every byte it was sent.

A behaviour is a function of (connection, request). It answers on the connection and returns False to close it.
`backend.on(path, behaviour)` sets what one path does; everything else is answered like a model server would.
"""
import hashlib
import json
import select
import socket
import struct
import threading
import time


class Request:
    def __init__(self, connection, head):
        lines = head.decode("latin-1").split("\r\n")
        self.connection = connection
        self.head = head
        self.method, self.target, self.version = lines[0].split(" ", 2)
        self.path = self.target.split("?", 1)[0]
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        self.body = b""
        self.at = time.monotonic()

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name):
        found = self.all(name)
        return found[0] if found else None

    def names(self):
        return {key.lower() for key, _ in self.headers}


class Gone(Exception):
    """The gateway closed the connection while something was read from it or written to it."""


class Connection:
    def __init__(self, backend, sock, number):
        self.backend, self.sock, self.number = backend, sock, number
        self.received = bytearray()
        self.pending = bytearray()
        self.served = 0
        self.opened_at = time.monotonic()
        self.closed_at = None
        self.sent = 0

    def _more(self):
        try:
            piece = self.sock.recv(65536)
        except OSError as error:
            raise Gone(str(error)) from error
        if not piece:
            raise Gone("end")
        self.received += piece
        self.pending += piece

    def _take(self, count):
        while len(self.pending) < count:
            self._more()
        piece = bytes(self.pending[:count])
        del self.pending[:count]
        return piece

    def _take_line(self):
        while b"\r\n" not in self.pending:
            self._more()
        return self._take(self.pending.index(b"\r\n") + 2)

    def read_head(self):
        while b"\r\n\r\n" not in self.pending:
            self._more()
        return Request(self, self._take(self.pending.index(b"\r\n\r\n") + 4))

    def read_body(self, request):
        if request.header("transfer-encoding"):
            body = b""
            while True:
                size = int(self._take_line().split(b";")[0], 16)
                if size == 0:
                    while self._take_line() != b"\r\n":
                        pass
                    break
                body += self._take(size + 2)[:-2]
            request.body = body
        elif request.header("content-length"):
            request.body = self._take(int(request.header("content-length")))

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error
        self.sent += len(data)

    def answer(self, status=200, body=b"", headers=(), content_type="application/json"):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def begin_stream(self, content_type="text/event-stream", headers=()):
        lines = ["HTTP/1.1 200 OK", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join(lines) + "\r\n\r\n")

    def chunk(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end_stream(self):
        self.send(b"0\r\n\r\n")

    def wait_gone(self, within=10.0):
        """Waits until the gateway closes this connection; True if it did in time."""
        until = time.monotonic() + within
        while time.monotonic() < until and not self.backend.stopping:
            readable, _, _ = select.select([self.sock], [], [], min(0.05, max(0.0, until - time.monotonic())))
            if not readable:
                continue
            try:
                if not self.sock.recv(65536):
                    return True
            except OSError:
                return True
        return False

    def abort(self):
        """Ends the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Backend:
    def __init__(self, port=0, receive_buffer=None):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.behaviours = {}
        self.connections = []
        self.requests = []
        self.changed = threading.Condition()
        self.stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, path, behaviour):
        self.behaviours[path] = behaviour
        return self

    def reset(self):
        """Forgets what was recorded and which behaviours were set; open connections stay."""
        with self.changed:
            self.behaviours, self.requests = {}, []
            for connection in self.connections:
                connection.received.clear()
            self.connections = [c for c in self.connections if c.closed_at is None]

    def wait_for(self, condition, within=5.0):
        with self.changed:
            return self.changed.wait_for(lambda: condition(self), within)

    def bytes_received(self):
        return b"".join(bytes(connection.received) for connection in self.connections)

    def stop(self):
        self.stopping = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for connection in list(self.connections):
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.wait_for(lambda b: all(c.closed_at for c in b.connections))

    def _accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections))
            with self.changed:
                self.connections.append(connection)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            while self._serve_one(connection):
                pass
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self.changed:
                connection.closed_at = time.monotonic()
                self.changed.notify_all()
            connection.sock.close()

    def _serve_one(self, connection):
        request = connection.read_head()
        behaviour = self.behaviours.get(request.path, like_a_model_server)
        connection.served += 1
        if not getattr(behaviour, "before_body", False):
            connection.read_body(request)
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
        return behaviour(connection, request) is not False


def before_body(behaviour):
    """Marks a behaviour that answers before the request's body has been read."""
    behaviour.before_body = True
    return behaviour


# ---- What a model server does ----

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat_answer(model="demo", text="Hello from the backend"):
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model, "usage": USAGE,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def chat_chunk(text=None, finish=None):
    delta = {"content": text} if text is not None else {}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "demo",
             "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(event)}\n\n"


def like_a_model_server(connection, request):
    if request.path == "/health":
        return connection.answer(body={"status": "ok"})
    if request.path == "/v1/models":
        return connection.answer(body={"object": "list", "data": [{"id": "demo", "object": "model", "created": 1, "owned_by": "tests"}]})
    if request.path == "/v1/chat/completions" and request.method == "POST":
        wanted = json.loads(request.body or b"{}")
        if not wanted.get("stream"):
            return connection.answer(body=chat_answer(wanted.get("model", "demo")))
        connection.begin_stream()
        for word in ("Hello", " from", " the", " backend"):
            connection.chunk(chat_chunk(word))
        connection.chunk(chat_chunk(finish="stop"))
        connection.chunk("data: [DONE]\n\n")
        return connection.end_stream()
    return echo(connection, request)


def echo(connection, request):
    seen = {"method": request.method, "target": request.target, "headers": request.headers, "length": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(), "connection": connection.number}
    body = json.dumps(seen).encode()
    if request.method == "HEAD":
        return connection.send(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n")
    return connection.answer(body=body)


# ---- What a hostile or broken one does ----

def raw(data, close=True, linger=0.0):
    """Sends exactly these bytes."""
    def behaviour(connection, request):
        connection.send(data)
        if linger:
            connection.wait_gone(linger)
        return not close
    return behaviour


def fixed(status=200, body=b"{}", headers=()):
    return lambda connection, request: connection.answer(status, body, headers)


def never_answers(connection, request):
    connection.left = connection.wait_gone(60)
    connection.left_at = time.monotonic()
    with connection.backend.changed:
        connection.closed_at = connection.left_at
        connection.backend.changed.notify_all()
    return False


def closes_without_answer(connection, request):
    return False


def resets_without_answer(connection, request):
    connection.abort()
    return False


def breaks_off(framing, after=b"partial", abort=False):
    """Half an answer, then nothing more."""
    def behaviour(connection, request):
        if framing == "length":
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n" + after)
        else:
            connection.begin_stream("text/plain")
            connection.chunk(after)
        if abort:
            connection.abort()
        return False
    return behaviour


class Held:
    """Streams one event at a time, each when the test says so."""

    def __init__(self, content_type="text/event-stream"):
        self.content_type = content_type
        self.turn = threading.Condition()
        self.queue = []
        self.gone_at = None
        self.gone = threading.Event()

    def put(self, event):
        with self.turn:
            self.queue.append(event)
            self.turn.notify()

    def __call__(self, connection, request):
        connection.begin_stream(self.content_type)
        try:
            while True:
                with self.turn:
                    self.turn.wait_for(lambda: self.queue, 0.02)
                    event = self.queue.pop(0) if self.queue else b""
                if event is None:
                    connection.end_stream()
                    return True
                if event:
                    connection.chunk(event)
                elif connection.wait_gone(0.01):
                    raise Gone("end")
                if connection.backend.stopping:
                    return False
        except Gone:
            self.gone_at = time.monotonic()
            self.gone.set()
            return False


def floods(total, piece=64 * 1024):
    """As many bytes as fast as they are taken."""
    block = b"x" * piece

    def behaviour(connection, request):
        connection.begin_stream("application/octet-stream")
        for _ in range(total // piece):
            connection.chunk(block)
        connection.end_stream()
    return behaviour


def endless_head(connection, request):
    connection.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(100000):
        connection.send(b"x-filler-%d: %s\r\n" % (number, b"y" * 100))


def one_request_per_connection(connection, request):
    """Keeps the connection, then drops it the moment a second request begins."""
    if connection.served > 1:
        connection.abort()
        return False
    return like_a_model_server(connection, request)


def answers_once_then_closes_silently(connection, request):
    """Says keep-alive and closes after its answer all the same."""
    like_a_model_server(connection, request)
    return False


@before_body
def refuses_early(connection, request):
    connection.answer(413, {"error": {"message": "the backend wants less"}}, [("connection", "close")])
    return False


def never_answers_nor_reads(connection, request):
    """Accepts, and leaves everything in its socket until the gateway has had enough."""
    until = time.monotonic() + 30
    while time.monotonic() < until and not connection.backend.stopping:
        if select.select([connection.sock], [], [], 0)[0] and is_reset(connection.sock):
            break
        time.sleep(0.05)
    return False


def is_reset(sock):
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
