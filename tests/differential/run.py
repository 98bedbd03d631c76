#!/usr/bin/python3
"""The same bytes to nginx and to our request parser: run.py BUILD [--count N] [--seed N].

The ambiguous requests of the black-box tests, the fuzzer's corpus, and generated pipelines of requests, most of them damaged. What both accept
must mean the same: method, target, path as routes see it, host, body, and where the next request begins. What only we accept is listed
with the reason why, and nothing may be there without one. What only nginx accepts is counted: being stricter is what the parser is for.
"""
import argparse
import collections
import concurrent.futures
import glob
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402

CONFIG = """
daemon off; master_process off; pid {d}/pid; error_log {d}/error.log emerg; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
    log_format meaning escape=json '{{"from":"$remote_addr","status":$status,"method":"$request_method","target":"$request_uri","path":"$uri",'
        '"host":"$host","sent_host":"$http_host","length":$request_length,"body":"$request_body"}}';
    access_log {d}/access.log meaning;
    lingering_close off; keepalive_timeout 5; large_client_header_buffers 8 64k; client_header_buffer_size 64k;
    client_body_buffer_size 1m; client_body_in_single_buffer on; client_max_body_size 0; proxy_ignore_client_abort on;
    server {{
        listen 127.0.0.1:{port} backlog=1024; server_name "";
        location / {{ proxy_pass http://unix:{d}/echo; proxy_http_version 1.1; }}
    }}
    server {{ listen unix:{d}/echo; access_log off; location / {{ return 200 "ok"; }} }}
}}
"""

# ---- What is sent ----

METHODS = ["GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH"]
PATHS = ["/", "/v1/chat/completions", "/v1/models?x=1&y=%20", "/a%20b", "/a;b=c/d", "/%C3%A4", "/x?", "/x?a?b", "/a+b", "/~u/-_.!*'()", "/a//b", "/a/./b",
         "/a/../b", "/%2e%2e/x", "/a%2fb", "http://h.example/x", "http://h.example", "/a:b@c", "/x#y", "*"]
HOSTS = ["h.example", "h.example:8080", "H.Example", "127.0.0.1", "[::1]:80", "a_b.example", "h.example."]
FIELDS = ["Accept: */*", "X-A: b", "X-Empty:", "X-Tabs:\ta\t", "User-Agent: t/1 (x; y)", "Accept-Encoding: gzip, br", "Connection: keep-alive", "Connection: close",
          "Content-Type: application/json", "X-Utf: \xc3\xa4", "Cookie: a=b; c=d", "Expect: 100-continue", "TE: trailers", "Authorization: Bearer x", "X_Y: z"]
PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\n ", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x80", b"\xff", b"0", b"a", b"-", b"+", b"\"", b"=",
    b"%", b"%00", b"%2e", b"/", b"//", b"\\", b"#", b"?", b"0x", b"00", b"ffffffffffffffff", b"5;x=\"y\"\r\n", b"0\r\n\r\n", b" HTTP/1.1", b"HTTP/1.0",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Host: other.example\r\n",
    b"Connection: content-length\r\n", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"]


def chunked(pick, body):
    out, at = b"", 0
    while at < len(body):
        size = pick.randint(1, len(body) - at)
        form = pick.choice(["%x", "%X", "0%x", "%x;ext", "%x;a=b", '%x;a="b;c"', "%x ", "%x"])
        out += (form % size).encode() + b"\r\n" + body[at:at + size] + b"\r\n"
        at += size
    return out + b"0\r\n" + pick.choice([b"", b"", b"", b"X-T: v\r\n", b"X-T: v\r\nX-U:\r\n"]) + b"\r\n"


def one_request(pick):
    method, body = pick.choice(METHODS), b""
    fields = [f"Host: {pick.choice(HOSTS)}"] + pick.sample(FIELDS, pick.randint(0, 3))
    if method in ("POST", "PUT", "PATCH") or pick.random() < 0.1:
        body = bytes(pick.choice(b"abc{}\"\r\n0 G/") for _ in range(pick.randint(0, 40)))
        if pick.random() < 0.5:
            fields.append(pick.choice(["Transfer-Encoding: chunked", "transfer-encoding:chunked", "Transfer-Encoding: Chunked "]))
            body = chunked(pick, body)
        else:
            fields.append(pick.choice(["Content-Length: %d", "content-length:%d", "Content-Length: 0%d", "Content-Length: %d "]) % len(body))
    pick.shuffle(fields)
    version = pick.choice(["HTTP/1.1"] * 9 + ["HTTP/1.0"])
    return f"{method} {pick.choice(PATHS)} {version}\r\n".encode() + "".join(field + "\r\n" for field in fields).encode("latin-1") + b"\r\n" + body


def damaged(pick, data):
    for _ in range(pick.choice([0, 1, 1, 1, 2, 3])):
        at = pick.randrange(len(data) + 1)
        what = pick.random()
        if what < 0.5:
            data = data[:at] + pick.choice(PIECES) + data[at:]
        elif what < 0.7:
            data = data[:at] + data[at + pick.randint(1, 3):]
        elif what < 0.85:
            data = data[:at] + bytes([pick.randrange(256)]) + data[at + 1:]
        else:
            lines = data.split(b"\r\n")
            line = pick.choice(lines)
            lines.insert(pick.randrange(len(lines) + 1), line)
            data = b"\r\n".join(lines)
    return data


def inputs(count, seed):
    """The corpora, each also followed by an innocent request, and what is generated."""
    pick = random.Random(seed)
    follow = b"GET /next HTTP/1.1\r\nHost: h.example\r\n\r\n"
    found = []
    for path in sorted(glob.glob(ROOT + "/tests/e2e/ambiguous/*.http") + glob.glob(ROOT + "/tests/fuzz/http/corpus-request/*")):
        with open(path, "rb") as file:
            data = file.read()
        found += [data, data + follow]
    corpus = [data for data in found if len(data) < 4000]
    while len(found) < count:
        base = pick.choice(corpus) if pick.random() < 0.3 else b"".join(one_request(pick) for _ in range(pick.randint(1, 3)))
        found.append(damaged(pick, base) if pick.random() < 0.8 else base)
    return found[:max(count, 1)]


# ---- The two readers ----

def ours(build, found):
    frames = b"".join(struct.pack("!I", len(data)) + data for data in found)
    said = subprocess.run([os.path.join(build, "tests", "differential", "understand")], input=frames, capture_output=True, check=True).stdout.decode()
    results, requests = [], []
    for line in said.splitlines():
        word, *values = line.split(" ")
        if word == "end":
            results.append((requests, " ".join(values)))
            requests = []
            continue
        method, path, query, host, minor, length, body = values
        text = {name: bytes.fromhex(value).decode("latin-1") if value != "-" else "" for name, value in
                (("method", method), ("path", path), ("query", query), ("host", host), ("body", body))}
        requests.append({**text, "minor": int(minor), "length": int(length)})
    return results


class Nginx:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="sallyport-differential-")
        self.port = harness.free_port()
        with open(self.directory + "/conf", "w") as file:
            file.write(CONFIG.format(d=self.directory, port=self.port))
        self.process = subprocess.Popen(["nginx", "-c", self.directory + "/conf", "-p", self.directory, "-e", "/dev/null"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError("nginx does not start") from None
                time.sleep(0.01)

    def send(self, number, data):
        """From an address that stands for the input: the log tells them apart by it. At the end of the connection everything is logged."""
        with socket.socket() as sock:
            sock.settimeout(20)
            sock.bind((f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}", 0))
            sock.connect(("127.0.0.1", self.port))
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass

    def understand(self, found):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(self.send, range(len(found)), found))
        results = [[] for _ in found]
        with open(self.directory + "/access.log", encoding="latin-1") as file:
            for line in file:
                entry = json.loads(line, strict=False)
                a, b, c = (int(part) for part in entry["from"].split(".")[1:])
                if (a, b, c) != (0, 0, 1):
                    results[(a - 1) * 62500 + b * 250 + c - 1].append(entry)
        return results

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


# ---- Comparing ----

def differences(mine, theirs):
    """What the two think one request is, where they think otherwise."""
    path, host = mine["path"], mine["host"].lower()
    if path == "*" and theirs["target"] == "/" and mine["method"] == "OPTIONS":
        path = "/"  # OPTIONS http://host: "*" is what RFC 9112 (3.2.4) wants sent on, nginx says "/"
    target = path + ("?" + mine["query"] if mine["query"] else "")
    their_target = theirs["target"] if mine["query"] else theirs["target"].removesuffix("?")
    if their_target.startswith("?"):
        their_target = "/" + their_target  # http://host?query: nginx keeps what was sent, its path is "/" all the same
    pairs = {"method": (mine["method"], theirs["method"]), "path": (urllib.parse.unquote(path, "latin-1"), theirs["path"]),
             "target": (target, their_target), "host": (host, theirs["host"] if host else theirs["sent_host"]), "body": (mine["body"], theirs["body"]),
             "length": (mine["length"], theirs["length"])}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# Why nginx refuses what we take, or does not get there. Each is told by the request, the bytes it came as, and those before it.
ONLY_OURS = [
    ("a method that nginx does not know the letters of (RFC 9110 allows any token)",
     lambda mine, sent, before: not re.fullmatch(r"[A-Z_-]+", mine["method"])),
    ("TRACE, which nginx has no use for", lambda mine, sent, before: mine["method"] == "TRACE"),
    ("OPTIONS *, which nginx serves nothing for", lambda mine, sent, before: mine["path"] == "*"),
    ("a tab beside a value, white space to RFC 9110 (5.6.3) and part of the value to nginx",
     lambda mine, sent, before: re.search(rb"(?i)\r\n(host|content-length|transfer-encoding):([ \t]*\t|[^\r]*\t[ \t]*\r\n)", sent)),
    ("after a Connection field in which nginx finds the letters of close, though not the option",
     lambda mine, sent, before: re.search(rb"(?i)\r\nconnection:[^\r]*close", before)),
]


def explanation(*arguments):
    return next((why for why, holds in ONLY_OURS if holds(*arguments)), None)


def compare(found, mine, theirs):
    counts, problems, explained = collections.Counter(), [], collections.Counter()
    for data, (requests, end), entries in zip(found, mine, theirs):
        at, before = 0, b""
        for i, request in enumerate(requests):
            sent, at = data[at:at + request["length"]], at + request["length"]
            entry = entries[i] if i < len(entries) else None
            if entry is None or entry["status"] != 200:
                status = entry["status"] if entry else "nothing"
                why = explanation(request, sent, before)
                counts["accepted by us alone"] += 1
                if why:
                    explained[why] += 1
                else:
                    problems.append((f"only we accept request {i + 1}; nginx says {status}", data, request, entry))
                break
            wrong = differences(request, entry)
            counts["accepted by both"] += 1
            counts["of these with a body"] += request["body"] != ""
            if wrong:
                problems.append((f"request {i + 1} means two things: {wrong}", data, request, entry))
                break
            before = sent
        else:
            more = len(entries) > len(requests) and entries[len(requests)]["status"] == 200
            counts["accepted by nginx alone" if more else "refused by both, or not whole" if end != "nothing" else "read to the end by both"] += 1
    return counts, problems, explained


def main():
    options = argparse.ArgumentParser()
    options.add_argument("build")
    options.add_argument("--count", type=int, default=6000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    found = inputs(min(given.count, 250 * 250 * 100), given.seed)
    mine = ours(given.build, found)
    nginx = Nginx()
    try:
        theirs = nginx.understand(found)
    finally:
        nginx.stop()
    counts, problems, explained = compare(found, mine, theirs)
    for why, count in explained.most_common():
        print(f"    taken by us alone, {count} times: {why}")
    for what, data, request, entry in problems[:12]:
        print(f"    {what}\n        sent   {data[:600]!r}\n        ours   {request}\n        nginx  {entry}")
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    good = not problems and counts["accepted by both"] > 0.2 * len(found) and counts["of these with a body"] > 0.02 * len(found)
    print(f"{'ok' if good else 'FAILED'} what nginx and the parser both accept means the same: {len(found)} inputs, {told}")
    return 0 if good else 1


sys.exit(main())
