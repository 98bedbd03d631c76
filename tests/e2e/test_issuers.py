"""Issuers as they are: keys found by discovery, rotated, withdrawn, out of reach; opaque tokens; several issuers; tokens bound to certificates."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import oidc
import pytest
import tokens
from harness import Client, join, make_certificate, tls_context, wait_until
from issuer import Issuer

pytestmark = pytest.mark.skipif(bool(oidc.MISSING), reason=str(oidc.MISSING))


class Made:
    """What a test makes, taken down in order."""

    def __init__(self, start, directory):
        self.start, self.directory, self.others = start, str(directory), []
        self.certificate = make_certificate(self.directory, stem="provider")

    def provider(self):
        self.others.append(oidc.Provider(self.directory, self.certificate))
        return self.others[-1]

    def pretender(self):
        self.others.append(oidc.Pretender())
        return self.others[-1]

    def issuer(self, provider, **more):
        """The part of a configuration that believes this provider."""
        return {"issuer": provider.issuer, "audience": ["inference"], "ca": "provider.pem",
                "claims": {"tenant": "org.id", "roles": "realm_access.roles"}, **more}

    def introspection(self, provider, **more):
        return {"url": provider.issuer + "/token/introspection", "client_id": "sallyport", "client_secret_file": "idp.secret", **more}

    def gateway(self, *issuers, change=None, begin=True):
        def configure(config):
            config["issuers"] = list(issuers)
            config["routes"][0]["roles"] = ["user"]
            return (change(config) if change else None) or config

        gateway = self.start.gateway(change=configure, start=False)
        shutil.copy(self.certificate[0], gateway.directory + "/provider.pem")
        with open(os.open(gateway.directory + "/idp.secret", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(oidc.Provider.secret("sallyport") + "\n")
        return gateway.start() if begin else gateway

    def finish(self):
        for other in self.others:
            other.stop()


@pytest.fixture
def made(start, tmp_path):
    made = Made(start, tmp_path)
    yield made
    made.finish()


def ask(gateway, token, path="/v1/models", context=None):
    with Client(gateway.port, context=context) as client:
        return client.request("GET", path, key=token)


def status(gateway, token, **more):
    return ask(gateway, token, **more).status


def logged(gateway, **wanted):
    """The last line of the access log that says this."""
    def found():
        with open(gateway.access_log) as file:
            lines = [json.loads(line) for line in file]
        return next((line for line in reversed(lines) if all(line.get(name) == value for name, value in wanted.items())), None)
    return wait_until(found, 5, f"the access log says {wanted}")


def unknown(provider, keys, kid):
    content = tokens.claims(provider.issuer, "inference", int(time.time()))
    return tokens.sign_by_hand(keys.private["stranger"], {"alg": "ES256", "typ": "at+jwt", "kid": kid}, content)


# ---- Key sets ----

def test_keys_are_found_by_discovery_and_claims_by_their_paths(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider))
    assert status(gateway, provider.token()) == 200
    line = logged(gateway, subject="app")
    assert line["tenant"] == "tenant-of-app"
    assert status(gateway, provider.token(resource="urn:jwt:elsewhere")) == 401
    assert "audience" in logged(gateway, status=401)["reason"]


def test_a_key_set_by_url_needs_no_discovery(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, jwks=provider.issuer + "/jwks"))
    assert status(gateway, provider.token()) == 200
    assert provider.count("/.well-known/openid-configuration") == 0


def test_the_form_of_rfc_8414_is_found_too(made, issuer):
    server = made.pretender()
    server.issuer += "/tenant/"
    own = Issuer(server.issuer)
    server.json("/.well-known/oauth-authorization-server/tenant", {"issuer": server.issuer, "jwks_uri": server.issuer + "keys"})
    server.pages["/tenant/keys"] = (200, {}, own.jwks_text().encode())
    gateway = made.gateway({"issuer": server.issuer, "audience": ["inference"]})
    assert status(gateway, own.token()) == 200
    assert server.asked[:2] == ["/tenant/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/tenant"]


def keys_are_here(gateway):
    """Who asks before the first keys may use up the fetch on demand, of which there is one in 10 s."""
    wait_until(lambda: "its keys are here" in gateway.errors(), 10, "the issuer's first keys")


@pytest.mark.parametrize("workers", [1, 3])
def test_keys_rotate_while_requests_run_and_nobody_notices(made, workers):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider), change=lambda config: config.update(workers=workers))
    keys_are_here(gateway)
    current, seen, stop = [provider.token()], [], threading.Event()

    def caller():
        with Client(gateway.port) as client:
            while not stop.is_set():
                seen.append(client.request("GET", "/v1/models", key=current[0]).status)

    callers = [threading.Thread(target=caller) for _ in range(4 * workers)]
    for thread in callers:
        thread.start()
    wait_until(lambda: len(seen) > 50, 10, "requests run")
    provider.rotate()
    current[0] = provider.token()
    after = len(seen)
    wait_until(lambda: len(seen) > after + 200, 10, "requests run on")
    stop.set()
    join(callers)
    assert set(seen) == {200}
    assert provider.count("/jwks") == 2, "one fetch at the start, one for the new key"


def test_a_withdrawn_key_is_refused_at_once_even_where_its_tokens_are_remembered(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider))
    keys_are_here(gateway)
    old = provider.token()
    with Client(gateway.port) as client:
        assert client.request("GET", "/v1/models", key=old).status == 200
        assert client.request("GET", "/v1/models", key=old).status == 200
        provider.withdraw()
        assert client.request("GET", "/v1/models", key=old).status == 200, "nobody could know yet"
        assert status(gateway, provider.token()) == 200, "the new key is fetched, and with it that the old one is gone"
        assert client.request("GET", "/v1/models", key=old).status == 401
    assert status(gateway, old) == 401


def test_nobody_notices_while_the_provider_is_down(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider))
    keys_are_here(gateway)
    first, second, third, fourth = (provider.token() for _ in range(4))
    assert status(gateway, first) == 200
    provider.down()
    assert status(gateway, second) == 200, "not remembered: verified with the keys there are"
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: "cannot fetch its keys" in gateway.errors(), 10, "the reload asks for keys in vain")
    assert status(gateway, third) == 200, "a reload begins with the keys that were known"
    old = gateway.workers()[0]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: gateway.workers() and gateway.workers() != [old] and gateway.is_ready(), 10, "another worker serves")
    assert wait_until(lambda: status(gateway, fourth) == 200, 10, "a new worker is told the keys")
    provider.up()
    provider.rotate()
    assert wait_until(lambda: status(gateway, provider.token()) == 200, 15, "keys are fetched again")


def test_keys_survive_control(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider))
    first, second = provider.token(), provider.token()
    assert status(gateway, first) == 200
    provider.down()
    control = gateway.pids("control")[0]
    os.kill(control, signal.SIGKILL)
    wait_until(lambda: gateway.pids("control") not in ([], [control]) and gateway.is_ready(), 10, "another control serves")
    assert status(gateway, second) == 200


def test_a_provider_that_comes_later_is_found(made):
    provider = made.provider()
    token = provider.token()
    provider.down()
    gateway = made.gateway(made.issuer(provider))
    assert status(gateway, token) == 401
    provider.up()
    wait_until(lambda: status(gateway, token) == 200, 10, "its keys are fetched")


def test_a_flood_of_unknown_keys_costs_one_fetch(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider))
    good, keys = provider.token(), tokens.make_keys()
    assert status(gateway, good) == 200
    before = provider.count("/jwks")
    with Client(gateway.port) as client:
        for number in range(400):
            assert client.request("GET", "/v1/models", key=unknown(provider, keys, f"kid-{number}")).status == 401
    assert provider.count("/jwks") - before <= 1
    assert status(gateway, good) == 200


def test_two_issuers_stand_side_by_side_and_share_no_bucket(made):
    one, other = made.provider(), made.provider()

    def limit(config):
        config["limits"] = {"per-caller": {"by": ["subject"], "requests": "1/h", "request_burst": 1}}
        config["routes"][0]["limits"] = ["per-caller"]

    gateway = made.gateway(made.issuer(one), made.issuer(other), change=limit)
    assert [status(gateway, one.token()) for _ in range(2)] == [200, 429], "one subject, two tokens: one bucket"
    assert status(gateway, other.token()) == 200, "the same subject of another issuer"
    other.down()
    assert status(gateway, one.token(client="other")) == 200


# ---- Servers that are not to be believed ----

def refused(made, server, words, **more):
    own = Issuer(server.issuer)
    gateway = made.gateway({"issuer": server.issuer, "audience": ["inference"], **more})
    wait_until(lambda: words in gateway.errors(), 10, f"the log says {words!r}")
    assert status(gateway, own.token()) == 401
    return gateway


def good_pages(server, issuer=None, jwks_uri=None):
    server.json("/.well-known/openid-configuration", {"issuer": issuer or server.issuer, "jwks_uri": jwks_uri or server.issuer + "/keys"})
    server.pages["/keys"] = (200, {}, Issuer(server.issuer).jwks_text().encode())


def test_metadata_of_another_issuer_is_refused(made):
    server = made.pretender()
    good_pages(server, issuer=server.issuer + "/")
    refused(made, server, "another issuer's")
    assert "/keys" not in server.asked


def test_keys_over_an_open_network_are_refused(made):
    server = made.pretender()
    good_pages(server, jwks_uri="http://192.0.2.1/keys")
    refused(made, server, "may not be asked")


@pytest.mark.parametrize("where", ["/.well-known/openid-configuration", "/keys"])
def test_redirects_are_not_followed(made, where):
    server, elsewhere = made.pretender(), made.pretender()
    good_pages(server)
    elsewhere.pages["/x"] = server.pages[where]
    server.pages[where] = (302, {"Location": elsewhere.issuer + "/x"}, b"")
    refused(made, server, "redirects are not followed")
    assert not elsewhere.asked


@pytest.mark.parametrize("where, size", [("/.well-known/openid-configuration", 65 * 1024), ("/keys", 257 * 1024)])
def test_answers_that_are_too_long_are_refused(made, where, size):
    server = made.pretender()
    good_pages(server)
    status_, headers, body = server.pages[where]
    server.pages[where] = (status_, headers, body + b" " * (size - len(body)))
    refused(made, server, "too long")


def test_a_key_set_that_is_none_does_not_replace_a_good_one(made):
    server = made.pretender()
    own = Issuer(server.issuer)
    good_pages(server)
    server.pages["/keys"] = (200, {}, own.jwks_text().encode())
    gateway = made.gateway({"issuer": server.issuer, "audience": ["inference"]})
    assert status(gateway, own.token()) == 200
    server.pages["/keys"] = (200, {}, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: "public keys only" in gateway.errors(), 10, "the log says why")
    assert status(gateway, own.token()) == 200


def test_a_provider_whose_certificate_nobody_signed_is_not_asked(made, tmp_path_factory):
    provider = made.provider()
    stranger = make_certificate(str(tmp_path_factory.mktemp("stranger")))
    gateway = made.gateway(made.issuer(provider, ca="stranger.pem"), begin=False)
    shutil.copy(stranger[0], gateway.directory + "/stranger.pem")
    gateway.start()
    wait_until(lambda: "certificate" in gateway.errors(), 10, "the log says why")
    assert status(gateway, provider.token()) == 401


# ---- Opaque tokens ----

def test_an_opaque_token_is_asked_about_once_and_says_as_much_as_a_jwt(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider)))
    token = provider.token(resource="urn:opaque")
    assert [status(gateway, token) for _ in range(5)] == [200] * 5
    assert provider.count("/token/introspection") == 1
    line = logged(gateway, subject="app")
    assert line["tenant"] == "tenant-of-app" and line["status"] == 200


def test_both_forms_of_one_callers_token_share_a_bucket(made):
    provider = made.provider()

    def limit(config):
        config["limits"] = {"per-caller": {"by": ["subject"], "requests": "1/h", "request_burst": 1}}
        config["routes"][0]["limits"] = ["per-caller"]

    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider)), change=limit)
    assert status(gateway, provider.token(resource="urn:opaque")) == 200
    assert status(gateway, provider.token()) == 429


def test_a_token_that_is_not_good_is_remembered_as_that(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider)))
    assert [status(gateway, "no-such-token-anywhere") for _ in range(5)] == [401] * 5
    assert provider.count("/token/introspection") == 1
    assert status(gateway, provider.token(resource="urn:opaque:elsewhere")) == 401
    assert logged(gateway, reason="audience")


def test_a_revoked_token_ends_with_the_cache(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider, cache="1s")))
    token = provider.token(resource="urn:opaque")
    assert status(gateway, token) == 200
    provider.revoke(token)
    wait_until(lambda: status(gateway, token) == 401, 5, "the revocation is seen")


def test_many_at_once_with_one_token_are_one_question(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider)))
    token, seen = provider.token(resource="urn:opaque"), []
    clients = [Client(gateway.port) for _ in range(20)]
    for client in clients:
        client.send_request(key=token)
    for client in clients:
        seen.append(client.read_response().status)
        client.close()
    assert seen == [200] * 20
    assert provider.count("/token/introspection") == 1


def test_an_issuer_that_cannot_be_asked_is_503_and_not_an_opinion(made):
    provider = made.provider()
    gateway = made.gateway(made.issuer(provider, introspection=made.introspection(provider)))
    known, unknown_yet = provider.token(resource="urn:opaque"), provider.token(resource="urn:opaque")
    assert status(gateway, known) == 200
    provider.down()
    response = ask(gateway, unknown_yet)
    assert response.status == 503 and response.header("retry-after")
    assert status(gateway, known) == 200
    provider.up()
    assert status(gateway, unknown_yet) == 200


def test_issuers_are_asked_in_order_and_one_that_is_down_does_not_hide_the_next(made):
    one, other = made.provider(), made.provider()
    gateway = made.gateway(made.issuer(one, introspection=made.introspection(one)), made.issuer(other, introspection=made.introspection(other)))
    token, later = other.token(resource="urn:opaque"), other.token(resource="urn:opaque")
    assert status(gateway, token) == 200
    assert one.count("/token/introspection") == 1
    one.down()
    assert status(gateway, later) == 200


# ---- Certificates ----

def certified(made, gateway_config):
    """A CA, two client certificates it signed, and a listener that asks for one."""
    directory = made.directory

    def run(*command):
        subprocess.run(["openssl", *command], check=True, capture_output=True, cwd=directory, timeout=60)

    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=clients",
        "-keyout", "clients.key", "-out", "clients.pem", "-addext", "basicConstraints=critical,CA:true")
    for name in ("alice", "mallory"):
        with open(os.path.join(directory, name + ".ext"), "w") as file:
            file.write(f"subjectAltName=URI:spiffe://tests.example/{name}\nextendedKeyUsage=clientAuth\n")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", name + ".key", "-out", name + ".csr")
        run("x509", "-req", "-in", name + ".csr", "-CA", "clients.pem", "-CAkey", "clients.key", "-CAcreateserial", "-days", "10",
            "-extfile", name + ".ext", "-out", name + ".pem")
    shutil.copy(os.path.join(directory, "clients.pem"), os.path.join(gateway_config["directory"], "clients.pem"))


def with_certificate(made, name):
    context = tls_context()
    context.load_cert_chain(os.path.join(made.directory, name + ".pem"), os.path.join(made.directory, name + ".key"))
    return context


def asking_gateway(made, *issuers, change=None):
    def configure(config):
        config["listeners"][0].update(client_certificate="optional", client_ca="clients.pem")
        return change(config) if change else None

    gateway = made.gateway(*issuers, change=configure, begin=False)
    certified(made, {"directory": gateway.directory})
    return gateway.start()


def test_a_certificate_is_an_identity_where_the_route_takes_it(made):
    provider = made.provider()

    def change(config):
        config["routes"].insert(0, {"name": "machines", "path": "/v1/machines", "authenticate": ["client_certificate"], "pool": "main"})
        config["routes"].insert(1, {"name": "either", "path": "/v1/either", "authenticate": ["jwt", "client_certificate"], "pool": "main"})

    gateway = asking_gateway(made, made.issuer(provider), change=change)
    alice = with_certificate(made, "alice")
    assert status(gateway, None, path="/v1/machines", context=alice) == 200
    assert logged(gateway, subject="spiffe://tests.example/alice")["status"] == 200
    assert status(gateway, None, path="/v1/machines") == 401
    assert status(gateway, "whatever-an-sdk-sends", path="/v1/machines", context=alice) == 200, "nothing else is taken, nothing else is looked at"
    assert status(gateway, None, path="/v1/either", context=alice) == 200
    assert status(gateway, "x.y.z", path="/v1/either", context=alice) == 401, "a token that was sent decides"
    assert status(gateway, None, context=alice) == 401, "this route takes no certificates"


@pytest.mark.parametrize("form", ["urn:jwt", "urn:opaque"])
def test_a_token_bound_to_a_certificate_is_nobody_elses(made, form):
    provider = made.provider()
    gateway = asking_gateway(made, made.issuer(provider, introspection=made.introspection(provider)))
    pair = tuple(os.path.join(made.directory, "alice" + end) for end in (".pem", ".key"))
    token = provider.token(client="bound", resource=form, certificate=pair)
    assert status(gateway, token, context=with_certificate(made, "alice")) == 200
    assert status(gateway, token) == 401
    assert status(gateway, token, context=with_certificate(made, "mallory")) == 401
    assert logged(gateway, status=401)["reason"] == "bound to another certificate"
    assert status(gateway, token, context=with_certificate(made, "alice")) == 200
