"""Backends over https://: verified always, by whom and for which name the configuration says; replaced on reload without a loss."""
import json
import shutil
import ssl
import threading

import pytest
from backend import Held
from harness import join, wait_until
from pki import Authority
from tls_backend import TlsBackend


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("backends"), "Backend Authority")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "Other Authority")


@pytest.fixture(scope="module")
def identity(authority):
    return authority.issue("server")


@pytest.fixture
def secure(start):
    def make(*arguments, **more):
        backend = TlsBackend(*arguments, **more)
        start.backends.append(backend)
        return backend
    return make


def gateway_for(start, backend, tls, **pool):
    def change(config):
        config["pools"]["main"].update(tls=tls, **pool)
    return start.gateway(backend, change=change)


def last_reason(gateway):
    return wait_until(lambda: gateway.log_lines() and gateway.log_lines()[-1], 5, "a line in the access log")["reason"]


def test_a_request_reaches_a_backend_that_is_verified(start, secure, key, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    assert gateway.ask(key=key).json()["data"][0]["id"] == "demo"
    assert backend.handshakes == [{"version": "TLSv1.3", "resumed": False, "alpn": "http/1.1", "client": None}]
    assert backend.names == [None], "an address is not sent as a name"


def test_large_bodies_pass_both_ways(start, secure, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    body = bytes(range(256)) * 4096
    backend.on("/open/echo", lambda connection, request: connection.answer(body=request.body, content_type="application/octet-stream"))
    for _ in range(3):
        answer = gateway.ask("POST", "/open/echo", body=body)
        assert answer.status == 200 and answer.body == body
    assert len(backend.handshakes) == 1, "and the connection is kept"


def test_connections_are_kept_and_sessions_resumed(start, secure, key, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    with gateway.client() as client:
        for _ in range(5):
            assert client.request(key=key).status == 200
    assert len(backend.handshakes) == 1

    def closes(connection, request):
        connection.answer(body={}, headers=[("connection", "close")])
        return False
    backend.on("/v1/closes", closes)
    for _ in range(4):
        assert gateway.ask(path="/v1/closes", key=key).status == 200
    assert [shake["resumed"] for shake in backend.handshakes] == [False, True, True, True]


def test_a_stream_arrives_event_by_event(start, secure, key, authority, identity):
    backend = secure(identity)
    held = Held()
    backend.on("/v1/stream", held)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    with gateway.client() as client:
        client.send_request(path="/v1/stream", key=key)
        assert client.read_head().status == 200
        for number in range(5):
            held.put(f"data: {number}\n\n")
            assert client.read_chunk() == f"data: {number}\n\n".encode()
    assert held.gone.wait(5), "a client that leaves ends the request at the backend"


def test_a_server_with_only_tls_1_2_works(start, secure, key, authority, identity):
    backend = secure(identity, newest=ssl.TLSVersion.TLSv1_2)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    assert gateway.ask(key=key).status == 200
    assert backend.handshakes[0]["version"] == "TLSv1.2"


def test_a_name_for_all_servers_is_sent_and_verified(start, secure, key, authority):
    backend = secure(authority.issue("named", alternatives="DNS:gpu.internal"))
    gateway = gateway_for(start, backend, {"ca": authority.pem, "server_name": "gpu.internal"})
    answer = gateway.ask(path="/v1/echo", key=key)
    assert answer.status == 200 and backend.names == ["gpu.internal"]
    assert ["host", f"127.0.0.1:{backend.port}"] in json.loads(answer.body)["headers"]


@pytest.mark.parametrize("what, why", [("unknown authority", "unable to get local issuer certificate"), ("other name", "it is for gpu.internal"),
                                       ("expired", "certificate has expired"), ("for clients only", "unsuitable certificate purpose")])
def test_a_certificate_that_does_not_pass_is_a_502_and_the_log_says_why(start, secure, key, authority, other, what, why):
    made = {"unknown authority": lambda: other.issue("stranger"), "other name": lambda: authority.issue("named", alternatives="DNS:gpu.internal"),
            "expired": lambda: authority.issue("late", ended=True), "for clients only": lambda: authority.issue("client", usage="clientAuth")}[what]()
    backend = secure(made)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    answer = gateway.ask(key=key)
    assert answer.status == 502 and b"certificate" not in answer.body
    assert last_reason(gateway) == "backend certificate not accepted"
    line = wait_until(lambda: next((line for line in gateway.errors().splitlines() if why in line), None), 5, "the log says why")
    assert backend.url in line and "the certificate for 127.0.0.1 is refused" in line and "serial" in line
    assert not backend.requests, "not a byte of the request went there"


def test_verification_asks_the_system_where_nothing_else_is_said(start, secure, key, identity):
    backend = secure(identity)
    gateway = start.gateway(backend)
    assert gateway.ask(key=key).status == 502
    assert last_reason(gateway) == "backend certificate not accepted"


def test_our_certificate_is_shown_to_servers_that_ask(start, secure, key, authority, identity):
    backend = secure(identity, asks=authority.pem)
    ours = authority.issue("gateway", usage="clientAuth")
    gateway = gateway_for(start, backend, {"ca": authority.pem, "certificate": ours[0], "key": ours[1]})
    assert gateway.ask(key=key).status == 200
    assert backend.handshakes[0]["client"] == "gateway"
    gateway.config["pools"]["main"]["tls"] = {"ca": authority.pem}
    assert gateway.reload().returncode == 0
    assert gateway.ask(key=key).status == 502
    wait_until(lambda: "alert certificate required" in gateway.errors(), 5, "the log has the server's alert")


def test_a_changed_authority_takes_effect_without_losing_what_is_under_way(start, secure, key, authority, other, identity):
    backend = secure(identity)
    held = Held()
    backend.on("/v1/stream", held)
    gateway = start.gateway(backend, change=lambda config: config["pools"]["main"].update(tls={"ca": "backends.pem"}), start=False)
    used = gateway.directory + "/backends.pem"
    shutil.copy(authority.pem, used)
    gateway.start()
    assert gateway.ask(key=key).status == 200
    with gateway.client() as client:
        client.send_request(path="/v1/stream", key=key)
        assert client.read_head().status == 200
        shutil.copy(other.pem, used)
        assert gateway.reload().returncode == 0
        held.put("data: still here\n\n")
        assert client.read_chunk() == b"data: still here\n\n", "a request under way goes on"
        held.put(None)
        assert client.read_chunk() == b""
    assert gateway.ask(key=key).status == 502, "kept connections that the old authority vouched for are not used"
    backend.show(other.issue("renewed"))
    assert gateway.ask(key=key).status == 200


def test_reloads_that_change_nothing_keep_connections(start, secure, key, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    for _ in range(5):
        assert gateway.ask(key=key).status == 200
        assert gateway.reload().returncode == 0
    assert len(backend.handshakes) == 1


def test_no_request_is_lost_while_certificates_are_replaced(start, secure, key, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    stop, statuses = threading.Event(), []

    def ask_on():
        with gateway.client() as client:
            while not stop.is_set():
                statuses.append(client.request("POST", "/v1/chat/completions", body={"model": "demo"}, key=key).status)
    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    ours = [authority.issue(f"gateway-{number}") for number in range(3)]
    for chain, private in ours:
        gateway.config["pools"]["main"]["tls"] = {"ca": authority.pem, "certificate": chain, "key": private}
        assert gateway.reload().returncode == 0
        done = len(statuses)
        wait_until(lambda: len(statuses) > done + 20, 10, "requests go on")
    stop.set()
    join(threads)
    assert set(statuses) == {200}


def test_files_that_will_not_do_are_refused_before_anything_changes(start, secure, key, authority, identity):
    backend = secure(identity)
    gateway = gateway_for(start, backend, {"ca": authority.pem})
    one, two = authority.issue("one"), authority.issue("two")
    gateway.config["pools"]["main"]["tls"] = {"ca": authority.pem, "certificate": one[0], "key": two[1]}
    told = gateway.reload()
    assert told.returncode != 0 and "does not match the certificate" in told.stderr + told.stdout and "sallyport.yaml:" in told.stderr + told.stdout
    gateway.config["pools"]["main"]["tls"] = {"ca": authority.pem, "certificate": one[0]}
    assert "`certificate` needs `key`" in gateway.reload().stderr
    assert gateway.ask(key=key).status == 200


def test_tls_for_a_pool_without_https_is_an_error(start, authority):
    gateway = start.gateway()
    gateway.config["pools"]["main"]["tls"] = {"ca": authority.pem}
    assert "this pool has none" in gateway.reload().stderr


def test_probes_verify_as_requests_do(start, secure, authority, other):
    backend = secure(authority.issue("probed", alternatives="DNS:gpu.internal"), asks=authority.pem)
    ours = authority.issue("prober")
    health = {"path": "/health", "interval": "100ms", "healthy_after": 1, "unhealthy_after": 1}
    tls = {"ca": authority.pem, "server_name": "gpu.internal", "certificate": ours[0], "key": ours[1]}
    gateway = gateway_for(start, backend, tls, health=health)
    assert backend.wait_for(lambda b: any(request.path == "/health" for request in b.requests)), "a probe gets through"
    probe = next(request for request in backend.requests if request.path == "/health")
    assert probe.header("host") == f"127.0.0.1:{backend.port}", "probes ask for the host that requests ask for"
    assert {shake["client"] for shake in backend.handshakes} == {"prober"}
    wait_until(lambda: f"backend {backend.url} is up" in gateway.errors(), 5, "it is up")
    gateway.config["pools"]["main"]["tls"]["ca"] = other.pem
    assert gateway.reload().returncode == 0
    wait_until(lambda: f"backend {backend.url} is down" in gateway.errors(), 5, "it is down")
