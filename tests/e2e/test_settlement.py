"""What a gateway owes to buckets in Redis when it ends: nothing."""
import pytest
from harness import wait_until
from test_tokens import BURST, chat, chunk, configure, events, post, usage


@pytest.fixture
def place(start, redis_server):
    def change(config):
        configure(config)
        config["redis"] = {"url": redis_server.url, "deadline": "500ms"}
        config["drain_timeout"] = "300ms"
    backend = start.backend()
    gateway = start.gateway(backend, change=change)
    wait_until(lambda: gateway.metric("sallyport_redis_up") >= 1, 10, "Redis is up")
    return gateway, backend, redis_server


def spent(server):
    """What is missing in the callers' buckets of tokens, as Redis has it."""
    return sum(BURST - int(server.api.get(name).split()[0]) / 1e6 for name in server.api.scan_iter("*}:t"))


def test_what_the_last_request_left_is_settled_before_the_worker_ends(place, key):
    gateway, backend, server = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"choices": [], "usage": usage(1000, 234)}))
    with gateway.client() as client:
        assert post(client, "/v1/chat/completions", chat(max_tokens=4000), key).status == 200
    gateway.stop()
    assert 1233 <= spent(server) <= 1234


def test_what_is_cut_at_the_end_of_a_drain_is_settled_too(place, key):
    gateway, backend, server = place

    def behaviour(connection, _):
        connection.begin_stream()
        connection.chunk(events(chunk("x" * 2000), done=False))
        return connection.wait_gone() and False
    backend.on("/v1/chat/completions", behaviour)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(stream=True, max_tokens=4000), key=key)
        client.read_head()
        client.read_chunk()
        wait_until(lambda: spent(server) > 4000, 5, "the reservation")
        gateway.stop()
    assert 490 <= spent(server) <= 530
