"""Which certificate is shown to whom, before and after a reload; tickets that outlive both."""
import ssl
import threading

import pytest
from harness import Client, join, tls_context, wait_until
from pki import Authority

NAMES = {"default": "DNS:localhost,IP:127.0.0.1", "api": "DNS:api.example.com", "wild": "DNS:*.example.com", "two": "DNS:one.example.net,DNS:two.example.net"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("listener"), "Listener Authority")


@pytest.fixture
def gateway_of(start, authority):
    def make(*stems, **more):
        def change(config):
            config["listeners"][0]["certificates"] = [dict(zip(("chain", "key"), authority.issue(stem, alternatives=NAMES[stem]))) for stem in stems]
            config.update(more)
        return start.gateway(change=change)
    return make


def shown(gateway, authority, name, session=None):
    """→ (common name, serial) of what a client that asks for `name` is shown."""
    context = tls_context(authority.pem)
    context.check_hostname = False
    with Client(gateway.port, context=context, server_name=name) as client:
        peer = client.sock.getpeercert()
    return dict(part[0] for part in peer["subject"])["commonName"], peer["serialNumber"]


@pytest.mark.parametrize("name, expected", [("localhost", "default"), ("api.example.com", "api"), ("API.Example.COM", "api"), ("www.example.com", "wild"),
                                            ("a.b.example.com", "default"), ("one.example.net", "two"), ("two.example.net", "two"),
                                            ("nobody.example.org", "default")])
def test_the_name_asked_for_chooses(gateway_of, authority, name, expected):
    gateway = gateway_of(*NAMES)
    assert shown(gateway, authority, name)[0] == expected


def test_a_name_that_no_certificate_has_cannot_be_verified(gateway_of, authority):
    gateway = gateway_of("default", "api")
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(gateway.port, authority.pem, server_name="nobody.example.org")


def test_renewed_files_are_shown_after_a_reload_and_nothing_is_dropped(gateway_of, authority, key):
    gateway = gateway_of("default", "api")
    before = shown(gateway, authority, "api.example.com")
    stop, statuses = threading.Event(), []

    def ask_on():
        with Client(gateway.port, authority.pem) as client:
            while not stop.is_set():
                statuses.append(client.request(key=key).status)
    threads = [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        authority.issue("api", alternatives=NAMES["api"])  # the same files, anew
        authority.issue("default", alternatives=NAMES["default"])
        assert gateway.reload().returncode == 0
        after = shown(gateway, authority, "api.example.com")
        assert after[0] == "api" and after[1] != before[1]
        before = after
    done = len(statuses)
    wait_until(lambda: len(statuses) > done + 10, 10, "connections from before live on")
    stop.set()
    join(threads)
    assert set(statuses) == {200}


def test_tickets_outlive_reloads_and_workers(gateway_of, authority, key):
    gateway = gateway_of("default", workers=2)
    context = tls_context(authority.pem)
    session, resumed = None, []
    for turn in range(6):
        with Client(gateway.port, context=context, session=session) as client:
            assert client.request(key=key).status == 200
            resumed.append(client.sock.session_reused)
            session = client.sock.session
        if turn % 2:
            authority.issue("default", alternatives=NAMES["default"])
            assert gateway.reload().returncode == 0
    assert resumed == [False] + [True] * 5
