"""The access log: one JSON object per line, whole, and rotated without a loss."""
import json
import os
import re
import signal

import backend as behave
from harness import CHAT, wait_until

FIELDS = {"time", "request_id", "client", "protocol", "tls", "route", "model", "subject", "tenant", "key_id", "status", "reason", "limit", "limit_kind", "pool",
          "server", "bytes_in", "bytes_out", "tokens_in", "tokens_out", "usage", "first_byte_ms", "total_ms", "retries", "degraded"}


def test_a_line_tells_what_happened(gateway, client, backend, keys):
    response = client.request("POST", "/v1/chat/completions", key=keys["tenant"], body=CHAT)
    line = gateway.logged(response.header("x-request-id"))
    assert FIELDS <= set(line), FIELDS - set(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["status"] == 200 and line["route"] == "api" and line["pool"] == "main" and line["client"] == "127.0.0.1"
    assert line["tenant"] == "acme" and line["key_id"] == keys["tenant"][3:11]
    assert line["tls"]["version"] == "TLSv1.3" and line["tls"]["cipher"].startswith("TLS_") and line["tls"]["group"]
    assert line["protocol"].lower().endswith("1.1") and line["reason"] == "ok"
    assert line["server"].endswith(str(backend.port)) and line["degraded"] is False and line["retries"] == 0
    assert 0 <= line["first_byte_ms"] <= line["total_ms"]


def test_numbers_are_those_of_the_exchange(gateway, client, backend, key):
    backend.on("/v1/fixed", behave.fixed(200, b"x" * 5000))
    response = client.request("POST", "/v1/fixed", key=key, body=b"y" * 3000)
    line = gateway.logged(response.header("x-request-id"))
    assert 3000 <= line["bytes_in"] < 4000 and 5000 <= line["bytes_out"] < 6000


def test_refusals_are_logged_with_their_reason(gateway, client, backend):
    response = client.request("GET", "/v1/models")
    line = gateway.logged(response.header("x-request-id"))
    assert line["status"] == 401 and line["reason"]


def test_what_a_client_invents_cannot_forge_a_line(gateway, client, backend, key):
    before = len(gateway.log_lines())
    odd = [b'GET /v1/x?"},{"status":200 HTTP/1.1\r\nHost: localhost\r\n\r\n', b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b'GET /v1/%22%7D HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a"b\r\nUser-Agent: "\\\xff\r\n\r\n',
           b'GET /v1/x HTTP/1.1\r\nHost: local"host\r\n\r\n', b'G"T /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n']
    for request in odd:
        with gateway.client() as fresh:
            fresh.send(request)
            assert fresh.read_response().status in (400, 401)
    wait_until(lambda: len(gateway.log_lines()) == before + len(odd), 5, "each is one line")
    with open(gateway.access_log, "rb") as file:
        for line in file.read().splitlines():
            assert isinstance(json.loads(line.decode("utf-8")), dict)


def test_usr1_reopens_the_log_without_losing_a_line(start, key):
    gateway = start.gateway()
    with gateway.client() as client:
        first = client.request(key=key).header("x-request-id")
        gateway.logged(first)
        os.rename(gateway.access_log, gateway.access_log + ".1")
        gateway.signal(signal.SIGUSR1)
        wait_until(lambda: os.path.exists(gateway.access_log), 5, "the new file")
        found = [client.request(key=key).header("x-request-id") for _ in range(20)]

    def all_there():
        lines = []
        for name in (gateway.access_log, gateway.access_log + ".1"):
            with open(name) as file:
                lines += [json.loads(line)["request_id"] for line in file]
        return sorted(lines) == sorted([first, *found])
    wait_until(all_there, 5, "each line once, in one of the two files")


def test_the_log_can_go_to_stdout(start, key):
    gateway = start.gateway(change=lambda config: config["logs"].update(access="stdout"))
    request_id = gateway.ask(key=key).header("x-request-id")

    def told():
        with open(gateway.directory + "/stdout") as file:
            return request_id in file.read()
    wait_until(told, 5, "the line on stdout")


def test_a_log_disk_that_is_full_costs_no_request(start, key):
    gateway = start.gateway(change=lambda config: config["logs"].update(access="/dev/full"))
    with gateway.client() as client:
        for _ in range(3000):  # more lines than are held back for a slow disk
            assert client.request(key=key).status == 200
    wait_until(lambda: gateway.metric("sallyport_log_lines_dropped_total") > 0, 5, "dropped lines are counted")
