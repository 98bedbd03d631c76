"""A request goes through as it was meant, in every framing HTTP/1.1 knows."""
import hashlib
import json

import backend as behave
import pytest
from harness import CHAT


def test_a_chat_completion_goes_through_and_back(client, backend, key):
    response = client.request("POST", "/v1/chat/completions", key=key, body=CHAT)
    assert response.status == 200
    assert response.json()["choices"][0]["message"]["content"] == "Hello from the backend"
    assert json.loads(backend.requests[0].body) == CHAT


def test_a_stream_goes_through_event_by_event(client, backend, key):
    response = client.request("POST", "/v1/chat/completions", key=key, body={**CHAT, "stream": True})
    assert response.status == 200 and response.header("content-type") == "text/event-stream"
    events = response.body.decode().split("\n\n")
    assert events[-2] == "data: [DONE]" and events[0].startswith("data: {")


def test_a_connection_serves_many_requests(client, backend, key):
    for number in range(50):
        assert client.request("POST", f"/v1/echo/{number}", key=key, body=b"x" * number).json()["length"] == number
    assert len({request.connection for request in backend.requests}) == 1, "the backend connection is kept too"


def test_the_query_string_arrives_unchanged(client, backend, key):
    assert client.request("GET", "/v1/echo?a=%20b&c=d/e?f", key=key).json()["target"] == "/v1/echo?a=%20b&c=d/e?f"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_methods_arrive_as_they_were_sent(client, backend, key, method):
    assert client.request(method, "/v1/echo", key=key, body=b"body" if method in ("POST", "PUT", "PATCH") else None).json()["method"] == method


def test_head_has_the_headers_of_get_and_no_body(client, backend, key):
    response = client.request("HEAD", "/v1/echo", key=key)
    assert response.status == 200 and int(response.header("content-length")) > 0 and response.body == b""
    assert client.request("GET", "/v1/echo", key=key).status == 200, "and the connection goes on"


def test_a_chunked_request_arrives_whole(client, backend, key):
    client.send(f"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"first", b" second;", b"third" * 1000):
        client.send(b"%X;extension=dropped\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\nTrailer-Field: dropped\r\n\r\n")
    whole = b"first second;" + b"third" * 1000
    assert client.read_response().json()["sha256"] == hashlib.sha256(whole).hexdigest()
    assert b"railer-" not in backend.bytes_received() and b"extension" not in backend.bytes_received()


def test_a_large_body_arrives_whole(client, backend, key):
    body = bytes(range(256)) * 16384  # 4 MiB
    assert client.request("POST", "/v1/echo", key=key, body=body).json()["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_large_answer_arrives_whole(client, backend, key):
    body = bytes(range(256)) * 32768  # 8 MiB
    backend.on("/v1/large", behave.fixed(200, body))
    assert client.request("GET", "/v1/large", key=key).body == body


def test_pipelined_requests_are_answered_in_order(client, backend, key):
    head = f"Host: localhost\r\nAuthorization: Bearer {key}\r\n"
    client.send("".join(f"POST /v1/echo/{n} HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nabc" for n in range(10)))
    assert [client.read_response().json()["target"] for _ in range(10)] == [f"/v1/echo/{n}" for n in range(10)]


def test_a_head_sent_byte_by_byte_is_one_request(client, backend, key):
    for byte in f"GET /v1/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n":
        client.send(byte)
    assert client.read_response().status == 200
    assert len(backend.requests) == 1


def test_expect_100_continue_is_answered_before_the_body(client, backend, key):
    client.send(f"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.read_head().status == 100
    client.send("hello")
    assert client.read_response().json()["length"] == 5
    assert "expect" not in backend.requests[0].names()


def test_expect_100_continue_is_not_invited_when_the_request_is_refused(client, backend):
    client.send("POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    response = client.read_response()
    assert response.status == 401 and response.interim == []
    assert not backend.requests


def test_an_interim_response_of_the_backend_does_not_end_the_exchange(client, backend, key):
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    backend.on("/v1/hints", behave.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer, close=False))
    backend.on("/v1/continue", behave.raw(b"HTTP/1.1 100 Continue\r\n\r\n" + answer, close=False))
    for path in ("/v1/hints", "/v1/continue"):
        response = client.request("POST", path, key=key, body=b"abc")
        assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_body_leaves_the_connection_usable(client, backend, key, status):
    backend.on("/v1/none", behave.raw(b"HTTP/1.1 %d Nothing\r\netag: \"x\"\r\n\r\n" % status, close=False))
    response = client.request("GET", "/v1/none", key=key)
    assert response.status == status and response.body == b""
    assert client.request("GET", "/v1/echo", key=key).status == 200


def test_an_answer_that_ends_with_its_connection_becomes_chunked(client, backend, key):
    backend.on("/v1/close", behave.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end"))
    response = client.request("GET", "/v1/close", key=key)
    assert response.body == b"until the end" and response.header("transfer-encoding") == "chunked"
    assert client.request("GET", "/v1/echo", key=key).status == 200


def test_http_1_0_gets_an_answer_it_can_read(gateway, backend, key):
    backend.on("/v1/chunked", lambda connection, request: (connection.begin_stream("text/plain"), connection.chunk("some"),
                                                           connection.chunk("thing"), connection.end_stream())[0])
    for path, expected in (("/v1/chunked", b"something"), ("/v1/models", None)):
        with gateway.client() as client:
            client.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n")
            response = client.read_response()
            assert response.status == 200 and response.header("transfer-encoding") is None
            assert expected is None or response.body == expected
            assert client.at_end() == "clean"


def test_connection_close_is_honoured(client, backend, key):
    response = client.request("GET", "/v1/echo", key=key, headers={"Connection": "close"})
    assert response.status == 200 and response.header("connection") == "close"
    assert client.at_end() == "clean"


def test_an_early_answer_reaches_a_client_that_still_sends(client, backend, key):
    backend.on("/v1/early", behave.refuses_early)
    client.send(f"POST /v1/early HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: 4000000\r\n\r\n")
    client.send(b"x" * 200000)
    response = client.read_response()
    assert response.status == 413 and "wants less" in response.body.decode()


def test_a_route_can_strip_its_prefix_and_the_first_match_wins(start, key):
    def change(config):
        config["routes"].insert(0, {"name": "inner", "path": "/v1/inner/", "strip_prefix": "/v1/inner", "authenticate": ["none"], "pool": "main"})
        config["routes"].insert(1, {"name": "one", "path": "=/v1/exact", "authenticate": ["none"], "pool": "main"})
    gateway = start.gateway(change=change)
    with gateway.client() as client:
        assert client.request("GET", "/v1/inner/deep?q=1").json()["target"] == "/deep?q=1"
        assert client.request("GET", "/v1/exact").json()["target"] == "/v1/exact"
        assert client.request("GET", "/v1/exact/more").status == 401, "exact means exact"


def test_routes_choose_by_host(start, key):
    first, second = start.backend(), start.backend()

    def change(config):
        config["pools"]["other"] = {"servers": [{"url": second.url}]}
        config["routes"].insert(0, {"name": "by-host", "host": ["other.example.com", "*.wild.example"], "path": "/", "authenticate": ["none"], "pool": "other"})
    gateway = start.gateway(first, change=change)
    with gateway.client() as client:
        for host in ("other.example.com", "OTHER.example.com:8443", "a.wild.example"):
            assert client.request("GET", "/v1/echo", host=host).status == 200, host
        assert len(second.requests) == 3 and not first.requests
        assert client.request("GET", "/v1/echo", host="localhost", key=key).status == 200
        assert len(first.requests) == 1
