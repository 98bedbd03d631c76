"""Stands between gateways and Redis: replies that are late, lost or repeated."""
import random
import socket
import threading

from harness import free_port


def reply_end(data, at=0):
    """Where the reply that begins there ends (RESP2); None: not all of it is here."""
    missing = 1
    while missing:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind, number = data[at:at + 1], data[at + 1:line_end]
        at, missing = line_end + 2, missing - 1
        if kind == b"$" and int(number) >= 0:
            at += int(number) + 2
        elif kind == b"*":
            missing += max(int(number), 0)
        if at > len(data):
            return None
    return at


class Interposer:
    """mode "pass"; "late": each reply up to `most` seconds; "lost": one in ten, and its connection with it; "twice": each."""

    def __init__(self, target, seed=None):
        self.target, self.dice, self.mode, self.most = target, random.Random(seed), "pass", 0.0
        self.port, self.stopping, self.sockets, self.replies = free_port(), False, [], 0
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def stop(self):
        self.stopping = True
        for sock in (self.listener, *self.sockets):
            self._end(sock)

    @staticmethod
    def _end(sock):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()

    def _accept(self):
        while not self.stopping:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [near, far]
            threading.Thread(target=self._carry, args=(near, far, self._requests), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, self._replies), daemon=True).start()

    def _carry(self, source, target, how):
        try:
            how(source, target)
        except OSError:
            pass
        self._end(source)
        self._end(target)

    @staticmethod
    def _requests(source, target):
        while piece := source.recv(65536):
            target.sendall(piece)

    def _replies(self, source, target):
        pending = b""
        while piece := source.recv(65536):
            pending += piece
            while pending and (end := reply_end(pending)) is not None:
                reply, pending = pending[:end], pending[end:]
                self.replies += 1
                if self.mode == "late":
                    threading.Event().wait(self.dice.uniform(0, self.most))
                elif self.mode == "lost" and self.dice.random() < 0.1:
                    return
                target.sendall(reply * 2 if self.mode == "twice" else reply)
