"""Streams: what a backend says arrives at once; what it breaks off arrives broken; who leaves is noticed."""
import threading
import time

import backend as behave
import pytest
from harness import BrokenTransfer, join, wait_until


def test_an_event_reaches_the_client_while_the_backend_holds_the_next_one(client, backend):
    held = behave.Held()
    backend.on("/open/held", held)
    client.send_request("GET", "/open/held")
    client_got = []
    held.put("data: 0\n\n")
    client.read_head()
    for number in range(1, 6):
        client_got.append(client.read_chunk())
        held.put(f"data: {number}\n\n")
    client_got.append(client.read_chunk())
    held.put(None)
    assert client.read_chunk() == b""
    assert b"".join(client_got) == b"".join(b"data: %d\n\n" % number for number in range(6))


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_the_backend_breaks_off_is_never_a_complete_one(client, gateway, backend, framing, abort):
    backend.on("/open/broken", behave.breaks_off(framing, b"partial" * 10, abort))
    request_id = f"broken-{framing}-{abort}"
    try:
        response = client.request("GET", "/open/broken", headers={"X-Request-ID": request_id})
        assert response.status == 502 and abort, "a reset may overtake the first bytes; then it is a 502"
    except BrokenTransfer:
        pass
    assert gateway.logged(request_id)["reason"] != "ok"


def test_where_only_the_end_tells_a_broken_answer_ends_without_close_notify(gateway, backend):
    backend.on("/open/broken", behave.breaks_off("chunked"))
    with gateway.client() as client:
        client.send("GET /open/broken HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with pytest.raises(BrokenTransfer):
            client.read_response()
        assert client.ended == "cut"


def test_a_content_length_that_lies_short_does_not_leak_into_the_next_answer(client, backend):
    backend.on("/open/lies", behave.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdefgh", close=False))
    assert client.request("GET", "/open/lies").body == b"abc"
    assert client.request("GET", "/open/echo").json()["target"] == "/open/echo"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_a_stream_cancels_the_backend_request(gateway, backend, leave, record_property):
    held = behave.Held()
    held.put("data: 1\n\n")
    backend.on("/open/held", held)
    client = gateway.client()
    client.send_request("GET", "/open/held", headers={"X-Request-ID": f"left-{leave}"})
    client.read_head()
    left_at = time.monotonic()
    getattr(client, leave)()
    assert held.gone.wait(1), "the backend connection was not closed"
    record_property("cancelled_after_ms", round((held.gone_at - left_at) * 1000, 1))
    assert gateway.logged(f"left-{leave}")["reason"] not in ("ok", "")


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_before_the_first_byte_cancels_the_backend_request(gateway, backend, leave, record_property):
    backend.on("/open/never", behave.never_answers)
    client = gateway.client()
    client.send_request("POST", "/open/never", body=b"question")
    assert backend.wait_for(lambda b: b.requests)
    left_at = time.monotonic()
    getattr(client, leave)()
    assert backend.wait_for(lambda b: b.requests[0].connection.closed_at, 1), "the backend connection was not closed"
    record_property("cancelled_after_ms", round((backend.requests[0].connection.closed_at - left_at) * 1000, 1))


def test_clients_that_leave_do_not_hold_backend_connections(gateway, backend):
    backend.on("/open/never", behave.never_answers)
    clients = [gateway.client() for _ in range(30)]
    for client in clients:
        client.send_request("GET", "/open/never")
    assert backend.wait_for(lambda b: len(b.requests) == 30)
    for client in clients:
        client.close()
    assert backend.wait_for(lambda b: all(request.connection.closed_at for request in b.requests))


def test_a_slow_reader_stops_its_backend(gateway, backend):
    total = 64 << 20
    backend.on("/open/flood", behave.floods(total))
    with gateway.client(receive_buffer=16384) as client:
        client.send_request("GET", "/open/flood")
        client.read_head()
        assert backend.wait_for(lambda b: b.requests)
        connection = backend.requests[0].connection
        last = [-1]

        def stands_still():
            before, last[0] = last[0], connection.sent
            time.sleep(0.2)  # the window in which a writer that was not stopped would have gone on
            return before == connection.sent
        wait_until(stands_still, 10, "the backend is held up")
        assert connection.sent < 16 << 20, "the gateway did not swallow the answer"
        received = 0
        while received < total:
            piece = client.read_chunk()
            assert piece
            received += len(piece)
        assert received == total, "and all of it comes when the client reads"


def test_a_slow_backend_stops_its_client(start):
    slow = start.backend(receive_buffer=16384)

    @behave.before_body
    def reads_nothing(connection, request):
        connection.backend.release.wait(20)
        connection.read_body(request)
        connection.answer(body={"length": len(request.body)})
    slow.release = threading.Event()
    slow.on("/open/slow", reads_nothing)
    gateway = start.gateway(slow, change=lambda config: config["routes"][1].update(max_body="64MiB"))
    total = 48 << 20
    with gateway.client() as client:
        client.send(f"POST /open/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {total}\r\n\r\n")
        sent = [0]

        def push():
            try:
                while sent[0] < total:
                    client.sock.sendall(b"x" * 65536)
                    sent[0] += 65536
            except OSError:
                pass
        pusher = threading.Thread(target=push, daemon=True)
        pusher.start()
        last = [-1]

        def stands_still():
            before, last[0] = last[0], sent[0]
            time.sleep(0.2)
            return before == sent[0] and sent[0] > 0
        wait_until(stands_still, 10, "the client is held up")
        assert sent[0] < 24 << 20
        slow.release.set()
        join([pusher])
        assert client.read_response().json()["length"] == total
