"""What a backend sees and what a client sees: CONTRACT "What a backend sees" and "Answers"."""
import os
import re

import backend as behave
import pytest
from harness import CHAT

CREDENTIAL_VALUE = "backend-credential-of-the-pool"


def configure(config):
    config["pools"]["main"]["credential"] = {"header": "Authorization", "prefix": "Bearer ", "value_file": "pool.secret"}


@pytest.fixture(scope="module")
def shared_gateway(shared, shared_backend):
    gateway = shared.gateway(shared_backend, change=configure, start=False)
    with open(gateway.directory + "/pool.secret", "w") as file:
        file.write(CREDENTIAL_VALUE + "\n")
    os.chmod(gateway.directory + "/pool.secret", 0o600)
    return gateway.start()


def seen(client, backend, key, headers=()):
    response = client.request("GET", "/v1/echo", headers=headers, key=key)
    assert response.status == 200, response
    return backend.requests[-1]


@pytest.mark.parametrize("name, value", [
    ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "1"),
    ("Forwarded", "for=6.6.6.6"), ("X-Sallyport-Identity", "forged"), ("X-Sallyport-Anything", "forged"), ("Keep-Alive", "timeout=99"),
    ("Proxy-Connection", "keep-alive"), ("Proxy-Authorization", "Basic Zm9v"), ("TE", "trailers"), ("Cookie", "session=1"),
    ("X-Real-IP", "6.6.6.6")])
def test_what_a_client_may_not_say_does_not_reach_the_backend(client, backend, key, name, value):
    request = seen(client, backend, key, {name: value})
    assert value not in request.all(name), f"{name} got through"


def test_fields_that_connection_names_are_removed(client, backend, key):
    request = seen(client, backend, key, {"Connection": "keep-alive, X-Secret-Hop", "X-Secret-Hop": "1"})
    assert "x-secret-hop" not in request.names()


def test_ordinary_fields_get_through(client, backend, key):
    request = seen(client, backend, key, {"Accept": "text/event-stream", "Content-Language": "en", "User-Agent": "tests/1"})
    assert request.header("accept") == "text/event-stream" and request.header("user-agent") == "tests/1"


def test_the_gateway_says_who_called_and_how(client, backend, key):
    request = client.request("GET", "/v1/echo", key=key, host="api.example.com:8443") and backend.requests[-1]
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["https"]
    assert request.all("x-forwarded-host") == ["api.example.com:8443"] or request.all("x-forwarded-host") == ["api.example.com"]


def test_the_backend_is_addressed_by_its_own_name(client, backend, key):
    assert seen(client, backend, key).all("host") == [f"127.0.0.1:{backend.port}"]


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key"])
def test_no_credential_of_a_client_reaches_the_backend_and_the_pools_own_does(client, backend, key, header):
    value = f"Bearer {key}" if header == "Authorization" else key
    assert client.request("POST", "/v1/chat/completions", headers={header: value}, body=CHAT).status == 200
    assert backend.requests[-1].all("authorization") == [f"Bearer {CREDENTIAL_VALUE}"]
    assert key.encode() not in backend.bytes_received()
    assert not backend.requests[-1].names() & {"x-api-key", "api-key"}


def test_a_sane_request_id_is_kept_everywhere(client, gateway, backend, key):
    response = client.request("GET", "/v1/echo", headers={"X-Request-ID": "my-own_id.1:2"}, key=key)
    assert response.all("x-request-id") == ["my-own_id.1:2"]
    assert backend.requests[-1].all("x-request-id") == ["my-own_id.1:2"]
    assert gateway.logged("my-own_id.1:2")["status"] == 200


@pytest.mark.parametrize("bad", ["has space", "a" * 65, "semi;colon", "<script>"])
def test_an_odd_request_id_is_replaced(client, backend, key, bad):
    response = client.request("GET", "/v1/echo", headers={"X-Request-ID": bad}, key=key)
    ours = response.header("x-request-id")
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", ours) and ours != bad
    assert backend.requests[-1].all("x-request-id") == [ours]


def test_request_ids_are_unique(client, backend, key):
    found = {client.request("GET", "/v1/echo", key=key).header("x-request-id") for _ in range(100)}
    assert len(found) == 100


def test_a_trace_is_continued_with_a_span_of_our_own(client, backend, key):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ours = seen(client, backend, key, {"traceparent": parent}).header("traceparent")
    assert re.fullmatch(r"00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01", ours) and ours != parent


@pytest.mark.parametrize("parent", [None, "nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"])
def test_a_trace_is_begun_where_there_is_none(client, backend, key, parent):
    ours = seen(client, backend, key, {"traceparent": parent} if parent else {}).header("traceparent")
    assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]", ours)


def test_every_answer_carries_transport_security_and_no_server_version(gateway, backend, key):
    backend.on("/v1/versioned", behave.fixed(200, b"{}", [("Server", "uvicorn/0.1"), ("X-Powered-By", "Express")]))
    with gateway.client() as client:
        for path, credential in (("/v1/echo", key), ("/v1/versioned", key), ("/v1/echo", None), ("/nowhere", None)):
            response = client.request("GET", path, key=credential)
            assert len(response.all("strict-transport-security")) == 1
            assert response.header("server") is None
            assert response.header("x-request-id")
            assert b"allyport/" not in response.body


def test_hop_by_hop_fields_of_the_backend_stop_here(client, backend, key):
    backend.on("/v1/hops", behave.fixed(200, b"{}", [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Authenticate", "Basic")]))
    response = client.request("GET", "/v1/hops", key=key)
    assert not {name.lower() for name, _ in response.headers} & {"x-hop", "keep-alive", "proxy-authenticate", "upgrade"}


def test_the_backends_limits_do_not_pose_as_ours(client, backend, key):
    backend.on("/v1/limits", behave.fixed(200, b"{}", [("x-ratelimit-remaining-requests", "31337"), ("x-sallyport-degraded", "limits")]))
    response = client.request("GET", "/v1/limits", key=key)
    assert "31337" not in response.all("x-ratelimit-remaining-requests")
    assert response.header("x-sallyport-degraded") is None


def test_a_field_the_route_sets_wins_over_the_clients(start, key):
    def change(config):
        config["routes"][0]["request_headers"] = {"allow": ["x-customer"], "set": {"x-team": "ours"}}
        config["routes"][0]["response_headers"] = {"set": {"x-from": "gateway"}}
    gateway = start.gateway(change=change)
    response = gateway.ask("GET", "/v1/echo", key=key, headers={"X-Customer": "c1", "X-Team": "theirs"})
    sent = {name.lower(): value for name, value in response.json()["headers"]}
    assert sent["x-customer"] == "c1" and sent["x-team"] == "ours" and response.header("x-from") == "gateway"
