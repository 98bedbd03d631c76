"""What bad input, slow peers and broken backends get: the status table of CONTRACT."""
import socket

import backend as behave
import pytest
from harness import BrokenTransfer, free_port

OPENAI = {"message", "type", "param", "code"}


def configure(config):
    config["listeners"][0].update(header_timeout="600ms", idle_timeout="700ms")
    config["pools"]["dead"] = {"servers": [{"url": f"http://127.0.0.1:{free_port()}"}], "connect_timeout": "500ms", "retries": 0}
    config["routes"] = [
        {"name": "small", "path": "/small", "methods": ["POST", "PUT"], "authenticate": ["api_key"], "pool": "main", "max_body": "1KiB"},
        {"name": "dead", "path": "/v1/dead", "authenticate": ["none"], "pool": "dead"},
        {"name": "slow", "path": "/v1/slow", "authenticate": ["none"], "pool": "main", "timeouts": {"first_byte": "400ms", "idle": "600ms", "total": "5s"}},
        {"name": "short", "path": "/v1/short", "authenticate": ["none"], "pool": "main", "timeouts": {"first_byte": "5s", "idle": "5s", "total": "600ms"}},
        *config["routes"]]


def check_openai(response):
    error = response.json()["error"]
    assert set(error) == OPENAI and error["param"] is None and error["message"] and error["type"]
    assert response.header("content-type").startswith("application/json")
    return error


def test_an_unknown_path_is_404(client, backend):
    response = client.request("GET", "/nowhere")
    assert response.status == 404
    check_openai(response)


def test_a_method_the_route_does_not_know_is_405_with_allow(client, backend, key):
    response = client.request("GET", "/small", key=key)
    assert response.status == 405
    assert {method.strip() for method in response.header("allow").split(",")} == {"POST", "PUT"}
    check_openai(response)


def test_no_credential_is_401_with_a_challenge(client, backend):
    response = client.request("GET", "/v1/models")
    assert response.status == 401 and response.header("www-authenticate").lower().startswith("bearer")
    assert check_openai(response)["type"]
    assert not backend.requests


def test_errors_under_v1_messages_have_anthropics_shape(client, backend):
    response = client.request("POST", "/v1/messages", body={})
    body = response.json()
    assert response.status == 401 and body["type"] == "error"
    assert body["error"]["type"] == "authentication_error" and body["error"]["message"]


def test_an_error_keeps_the_connection_where_framing_is_certain(client, backend, key):
    assert client.request("GET", "/nowhere").status == 404
    assert client.request("GET", "/v1/models").status == 401
    assert client.request("POST", "/v1/chat/completions", body=b'{"x": 1}').status == 401, "a body is read off"
    assert client.request("GET", "/v1/models", key=key).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_above_the_routes_maximum_is_413(client, backend, key, framing):
    head = f"POST /small HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    if framing == "length":
        client.send(head + "Content-Length: 1025\r\n\r\n")
    else:
        client.send(head + "Transfer-Encoding: chunked\r\n\r\n" + "401\r\n" + "x" * 0x401 + "\r\n0\r\n\r\n")
    response = client.read_response()
    assert response.status == 413
    check_openai(response)
    assert not any(request.body for request in backend.requests), "no whole request at the backend"


def test_a_body_at_the_maximum_passes(client, backend, key):
    assert client.request("POST", "/small", key=key, body=b"x" * 1024).status == 200


def test_a_target_that_is_too_long_is_414(client, backend):
    client.send(f"GET /v1/{'a' * 20000} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.read_response().status == 414
    assert client.at_end() == "clean"


def test_headers_that_are_too_large_are_431(client, backend):
    client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
    for number in range(40):
        client.send(f"X-Filler-{number}: {'y' * 1000}\r\n")
    client.send("\r\n")
    assert client.read_response().status == 431
    assert client.at_end() == "clean"


def test_too_many_headers_are_431(client, backend):
    client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-F-{n}: y\r\n" for n in range(200)) + "\r\n")
    assert client.read_response().status == 431


def test_a_slow_head_is_408(client, backend):
    client.send("GET /v1/models HTTP/1.1\r\nHost: local")
    assert client.read_response().status == 408
    assert client.at_end() == "clean"


def test_a_kept_connection_that_says_nothing_is_closed_without_words(client, backend, key):
    assert client.request("GET", "/v1/models", key=key).status == 200
    assert client.at_end() == "clean"


def test_a_client_that_never_speaks_is_closed(client, backend):
    assert client.at_end() == "clean" or client.ended == "clean"


def test_a_body_that_stops_coming_is_408(client, backend):
    client.send("POST /v1/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nsome")
    assert client.read_response().status == 408


def test_a_backend_that_refuses_connections_is_502(client, backend):
    response = client.request("GET", "/v1/dead")
    assert response.status in (502, 503)
    check_openai(response)


def test_a_backend_whose_connect_hangs_is_504(start):
    # A listener whose queue is full drops what comes: the handshake never ends.
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())

    def change(config):
        config["pools"]["main"] = {"servers": [{"url": f"http://127.0.0.1:{full.getsockname()[1]}"}], "connect_timeout": "300ms", "retries": 0}
    response = start.gateway(change=change).ask("GET", "/open/x")
    for filler in fillers + [full]:
        filler.close()
    assert response.status == 504


def test_a_backend_that_says_nothing_is_504(client, backend):
    backend.on("/v1/slow", behave.never_answers)
    response = client.request("GET", "/v1/slow")
    assert response.status == 504
    check_openai(response)
    assert backend.wait_for(lambda b: b.connections[-1].closed_at), "and its connection is given up"


def test_an_exchange_that_outlasts_its_total_time_ends(client, backend):
    held = behave.Held()
    held.put("data: 1\n\n")
    backend.on("/v1/short", held)
    with pytest.raises(BrokenTransfer):
        client.request("GET", "/v1/short")
    assert held.gone.wait(5)


def test_a_stream_that_falls_silent_is_broken_off(client, backend):
    held = behave.Held()
    held.put("data: 1\n\n")
    backend.on("/v1/slow", held)
    with pytest.raises(BrokenTransfer) as broken:
        client.request("GET", "/v1/slow")
    assert broken.value.response.body == b"data: 1\n\n"
    assert held.gone.wait(5)


HOSTILE_ANSWERS = {
    "no_http_at_all": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http_0_9": b"<html>hello</html>\r\n\r\n",
    "wrong_version": b"HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n",
    "status_of_two_digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "status_with_letters": b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
    "bare_lf": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "header_without_colon": b"HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n",
    "space_before_colon": b"HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
    "folded_header": b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "nul_in_value": b"HTTP/1.1 200 OK\r\nx-a: b\x00c\r\ncontent-length: 0\r\n\r\n",
    "cr_in_value": b"HTTP/1.1 200 OK\r\nx-a: b\rc\r\ncontent-length: 0\r\n\r\n",
    "differing_content_lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "negative_content_length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "content_length_beyond_64_bits": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    "length_and_chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown_transfer_coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked_twice": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "switching_protocols_unasked": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "endless_interim_answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 2000,
}


@pytest.mark.parametrize("what", HOSTILE_ANSWERS)
def test_garbage_from_a_backend_is_502(client, backend, what):
    backend.on("/open/hostile", behave.raw(HOSTILE_ANSWERS[what]))
    response = client.request("GET", "/open/hostile")
    assert response.status == 502
    check_openai(response)
    assert client.request("GET", "/open/fine").status == 200, "the client's connection is none the worse"


def test_an_endless_head_from_a_backend_is_502(client, backend):
    backend.on("/open/endless", behave.endless_head)
    assert client.request("GET", "/open/endless").status == 502


@pytest.mark.parametrize("behaviour", [behave.closes_without_answer, behave.resets_without_answer])
def test_a_backend_that_closes_instead_of_answering_is_502(client, backend, behaviour):
    backend.on("/open/closes", behaviour)
    assert client.request("POST", "/open/closes", body=b"x").status == 502


def test_bytes_after_an_answer_never_become_the_next_answer(client, backend):
    backend.on("/open/more", behave.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned", close=False))
    assert client.request("GET", "/open/more").body == b"ok"
    for _ in range(5):
        assert b"poisoned" not in client.request("GET", "/open/fine").body


def test_chunks_that_are_garbage_break_the_transfer(client, backend):
    backend.on("/open/chunks", behave.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"))
    with pytest.raises(BrokenTransfer) as broken:
        client.request("GET", "/open/chunks")
    assert broken.value.response.status == 200
