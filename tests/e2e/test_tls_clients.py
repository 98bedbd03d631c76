"""Client certificates: who is let in, who is not, and what the log says about it."""
import shutil
import ssl

import pytest
from harness import BrokenTransfer, Client, tls_context, wait_until
from pki import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("clients"), "Client Authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "Stranger")


def gateway_for(start, authority, asks, crl=None):
    def change(config):
        listener = config["listeners"][0]
        listener.update(client_certificate=asks, client_ca=authority.pem)
        if crl:
            shutil.copy(crl, crl + ".used")
            listener["client_crl"] = crl + ".used"
    return start.gateway(change=change)


def ask(gateway, key, identity=None):
    """The status of one request; None: the gateway let nobody in."""
    context = tls_context(gateway.cafile)
    if identity:
        context.load_cert_chain(*identity)
    try:
        with Client(gateway.port, context=context) as client:
            return client.request(key=key).status
    except (OSError, BrokenTransfer):
        return None


def refusals(gateway):
    return [line for line in gateway.errors().splitlines() if "certificate" in line and "failed" in line]


def wait_for_refusal(gateway, *words):
    return wait_until(lambda: next((line for line in refusals(gateway) if all(word in line for word in words)), None), 5, f"a log line with {words}")


def test_where_certificates_are_required_only_good_ones_are_let_in(start, key, authority, stranger):
    gateway = gateway_for(start, authority, "required")
    assert ask(gateway, key, authority.issue("alice")) == 200
    assert ask(gateway, key) is None
    wait_for_refusal(gateway, '"level":"info"', "gave no certificate")
    assert ask(gateway, key, stranger.issue("mallory")) is None
    wait_for_refusal(gateway, '"level":"info"', "CN=mallory", "unable to get local issuer certificate")
    assert ask(gateway, key, authority.issue("late", ended=True)) is None
    wait_for_refusal(gateway, "CN=late", "serial 10", "certificate has expired")
    assert ask(gateway, key, authority.issue("machine", usage="serverAuth")) is None
    wait_for_refusal(gateway, "CN=machine", "unsuitable certificate purpose")


def test_where_certificates_are_optional_a_bad_one_is_worse_than_none(start, key, authority, stranger):
    gateway = gateway_for(start, authority, "optional")
    assert ask(gateway, key) == 200
    assert ask(gateway, key, authority.issue("bob")) == 200
    assert ask(gateway, key, stranger.issue("eve")) is None


def test_the_client_is_told_no_more_than_an_alert(start, key, authority, stranger):
    gateway = gateway_for(start, authority, "required")
    context = tls_context(gateway.cafile)
    context.load_cert_chain(*stranger.issue("trent"))
    with pytest.raises(ssl.SSLError) as refused:
        with Client(gateway.port, context=context) as client:
            client.sock.recv(1)
    assert "UNKNOWN_CA" in str(refused.value).upper().replace(" ", "_")


def test_a_revoked_certificate_is_refused_from_the_reload_on(start, key, authority):
    good, bad = authority.issue("carol"), authority.issue("dave")
    gateway = gateway_for(start, authority, "required", authority.crl("before"))
    assert ask(gateway, key, good) == 200 and ask(gateway, key, bad) == 200
    authority.revoke(bad[0])
    shutil.copy(authority.crl("after"), gateway.config["listeners"][0]["client_crl"])
    assert gateway.reload().returncode == 0
    assert ask(gateway, key, good) == 200
    assert ask(gateway, key, bad) is None
    wait_for_refusal(gateway, "CN=dave", "certificate revoked")


def test_connections_from_before_are_looked_at_again(start, key, authority):
    good, bad = authority.issue("judy"), authority.issue("ivan")
    gateway = gateway_for(start, authority, "optional", authority.crl("early"))
    clients = []
    for identity in (good, bad, None):
        context = tls_context(gateway.cafile)
        if identity:
            context.load_cert_chain(*identity)
        clients.append(Client(gateway.port, context=context))
        assert clients[-1].request(key=key).status == 200
    authority.revoke(bad[0])
    shutil.copy(authority.crl("later"), gateway.config["listeners"][0]["client_crl"])
    assert gateway.reload().returncode == 0
    assert clients[0].request(key=key).status == 200 and clients[2].request(key=key).status == 200
    clients[1].send_request(key=key)
    assert clients[1].at_end() in ("clean", "cut"), "closed without an answer"
    gateway.config["listeners"][0]["client_certificate"] = "required"
    assert gateway.reload().returncode == 0
    assert clients[0].request(key=key).status == 200
    clients[2].send_request(key=key)
    assert clients[2].at_end() in ("clean", "cut"), "who has none is not served where one is required"
    for client in clients:
        client.close()


def test_an_expired_list_of_revocations_lets_nobody_in_and_says_so(start, key, authority):
    gateway = gateway_for(start, authority, "required", authority.crl("old", ended=True))
    assert "has expired" in gateway.errors()
    assert ask(gateway, key, authority.issue("erin")) is None
    wait_for_refusal(gateway, "CN=erin", "CRL has expired")


def test_files_that_are_no_certificates_are_refused_before_anything_changes(start, key, authority):
    gateway = gateway_for(start, authority, "optional")
    with open(gateway.directory + "/empty.pem", "w") as file:
        file.write("nothing\n")
    gateway.config["listeners"][0]["client_ca"] = "empty.pem"
    told = gateway.reload()
    assert told.returncode != 0
    assert "sallyport.yaml:" in told.stdout + told.stderr and "no certificate in PEM form" in told.stdout + told.stderr
    assert ask(gateway, key, authority.issue("frank")) == 200


def test_asking_for_certificates_without_saying_whose_is_an_error(start, authority):
    gateway = gateway_for(start, authority, "optional")
    del gateway.config["listeners"][0]["client_ca"]
    assert "needs `client_ca`" in gateway.reload().stderr


def test_tickets_from_before_certificates_were_required_open_nothing(start, key, authority):
    gateway = gateway_for(start, authority, "optional")
    context = tls_context(gateway.cafile)
    with Client(gateway.port, context=context) as client:
        assert client.request(key=key).status == 200
        session = client.sock.session
    gateway.config["listeners"][0]["client_certificate"] = "required"
    assert gateway.reload().returncode == 0
    with pytest.raises((ssl.SSLError, ConnectionError, BrokenTransfer)):
        with Client(gateway.port, context=context, session=session) as client:
            client.request(key=key)
