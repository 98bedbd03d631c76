"""Who is calling: API keys, tokens, and what their roles and scopes allow."""
import json
import time

import pytest
from harness import CHAT, command, make_key
from issuer import Issuer
from test_command_line import development_issuer


def configure(config):
    config["routes"].insert(0, {"name": "staff", "path": "/v1/staff", "authenticate": ["jwt", "api_key"], "roles": ["batch"], "pool": "main"})
    config["routes"].insert(1, {"name": "scoped", "path": "/v1/scoped", "authenticate": ["jwt"], "scopes": ["models.read", "models.use"], "pool": "main"})
    config["routes"].insert(2, {"name": "keys-only", "path": "/v1/keys-only", "authenticate": ["api_key"], "pool": "main"})
    config["routes"].insert(3, {"name": "tokens-only", "path": "/v1/tokens-only", "authenticate": ["jwt"], "pool": "main"})


def ask(client, path="/v1/models", **headers):
    return client.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


# ---- API keys ----

@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_is_taken_from_each_of_its_places(client, backend, key, header):
    assert ask(client, **{header: f"Bearer {key}" if header == "authorization" else key}).status == 200


def test_the_scheme_is_case_insensitive(client, backend, key):
    assert ask(client, authorization=f"bearer {key}").status == 200


def broken_keys(key):
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    return {"checksum_wrong": flipped, "secret_changed": key[:20] + ("x" if key[20] != "x" else "y") + key[21:],
            "cut_short": key[:-1], "one_too_long": key + "A", "empty": "sp_", "unknown_id": "sp_AAAAAAAA" + key[11:],
            "other_case": key.swapcase(), "without_prefix": key[3:], "with_space": key[:10] + " " + key[10:], "doubled": key + key}


@pytest.mark.parametrize("what", list(broken_keys("sp_" + "a" * 60)))
def test_a_key_that_is_not_exactly_right_is_401(client, backend, key, what):
    response = ask(client, authorization=f"Bearer {broken_keys(key)[what]}")
    assert response.status in ((400, 401) if what == "with_space" else (401,))
    assert response.status == 400 or response.header("www-authenticate")
    assert not backend.requests


def test_an_expired_key_is_401(start):
    gateway = start.gateway(start=False)
    secret = make_key(gateway.directory + "/keys.yaml", "brief", expires="1s")
    lasting = make_key(gateway.directory + "/keys.yaml", "lasting", expires="90d")
    time.sleep(2.1)  # what is tested is the clock: there is no condition to wait for
    gateway.start()
    with gateway.client() as client:
        assert ask(client, authorization=f"Bearer {secret}").status == 401
        assert ask(client, authorization=f"Bearer {lasting}").status == 200


def test_the_file_of_keys_holds_no_secret(keys):
    with open(keys["file"]) as file:
        text = file.read()
    for who in ("user", "second", "tenant", "batch"):
        assert keys[who] not in text and keys[who][12:55] not in text


def test_two_different_credentials_are_400(client, backend, key, keys):
    assert ask(client, authorization=f"Bearer {key}", x_api_key=keys["second"]).status == 400
    assert not backend.requests


def test_two_authorization_fields_are_refused(client, backend, key, keys):
    client.send(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nAuthorization: Bearer {keys['second']}\r\n\r\n")
    assert client.read_response().status == 400
    assert not backend.requests


def test_a_credential_in_the_url_is_none(client, backend, key):
    assert ask(client, f"/v1/models?api_key={key}&access_token={key}").status == 401


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Digest x", "Bearer a b", "Bearer\tx"])
def test_odd_authorization_fields_are_401_or_400(client, backend, value):
    assert ask(client, authorization=value).status in (400, 401)
    assert not backend.requests


# ---- Tokens ----

def test_good_tokens_of_every_algorithm_and_type_are_200(gateway, backend, issuer):
    failed = {}
    for name, token in issuer.good_tokens():
        response = gateway.ask(headers={"Authorization": f"Bearer {token}"})
        if response.status != 200:
            failed[name] = response
    assert not failed and len(issuer.good_tokens()) >= 15


def test_forged_confused_expired_and_malformed_tokens_are_all_401(gateway, backend, issuer):
    failed = {}
    forged = issuer.forged_tokens()
    for name, token in forged:
        response = gateway.ask(headers={"Authorization": f"Bearer {token}"})
        if response.status != 401 or not response.header("www-authenticate"):
            failed[name] = response
    assert not failed and len(forged) >= 45
    assert not backend.requests, "and none of them gets further"


def test_the_same_token_works_again_and_again(client, backend, issuer):
    token = issuer.token("ES256")
    assert [ask(client, authorization=f"Bearer {token}").status for _ in range(5)] == [200] * 5




def test_a_token_that_expires_stops_working_though_it_was_remembered(start, issuer):
    gateway = start.gateway(change=lambda config: config["issuers"][0].update(leeway="0s"))
    token = issuer.token("ES256", exp=int(time.time()) + 3)
    with gateway.client() as client:
        assert ask(client, authorization=f"Bearer {token}").status == 200
        time.sleep(4)  # what is tested is the clock
        assert ask(client, authorization=f"Bearer {token}").status == 401


def test_a_key_removed_from_the_set_ends_its_tokens_with_the_reload(start, issuer):
    gateway = start.gateway()
    token = issuer.token("RS256")
    with gateway.client() as client:
        assert ask(client, authorization=f"Bearer {token}").status == 200
        remaining = [key for key in json.loads(issuer.jwks_text())["keys"] if key["kty"] != "RSA"]
        with open(gateway.directory + "/jwks.json", "w") as file:
            json.dump({"keys": remaining}, file)
        assert gateway.ctl("reload").returncode == 0
        assert ask(client, authorization=f"Bearer {token}").status == 401
        assert ask(client, authorization=f"Bearer {issuer.token('ES256')}").status == 200


def test_a_token_of_another_issuer_with_the_same_key_ids_is_401(client, backend, issuer):
    stranger = Issuer(name=issuer.name)
    for algorithm in ("RS256", "ES256", "EdDSA"):
        assert ask(client, authorization=f"Bearer {stranger.token(algorithm)}").status == 401


# ---- What they may do ----

def test_a_role_that_is_missing_is_403(client, backend, keys):
    response = ask(client, "/v1/staff", authorization=f"Bearer {keys['user']}")
    assert response.status == 403 and response.json()["error"]["message"]
    assert ask(client, "/v1/staff", authorization=f"Bearer {keys['batch']}").status == 200


def test_roles_come_from_the_tokens_claim(client, backend, issuer):
    assert ask(client, "/v1/staff", authorization=f"Bearer {issuer.token(roles=['batch'])}").status == 200
    assert ask(client, "/v1/staff", authorization=f"Bearer {issuer.token(roles=['user'])}").status == 403


@pytest.mark.parametrize("scope, status", [("models.read models.use", 200), ("models.use other models.read", 200), ("models.read", 403),
                                           ("models.read models.user", 403), (None, 403)])
def test_all_scopes_of_a_route_are_needed(client, backend, issuer, scope, status):
    response = ask(client, "/v1/scoped", authorization=f"Bearer {issuer.token(scope=scope)}")
    assert response.status == status
    if status == 403:
        assert "insufficient_scope" in response.header("www-authenticate")


def test_a_route_takes_only_the_credentials_it_names(client, backend, key, issuer):
    assert ask(client, "/v1/keys-only", authorization=f"Bearer {issuer.token()}").status == 401
    assert ask(client, "/v1/tokens-only", authorization=f"Bearer {key}").status == 401
    assert ask(client, "/v1/keys-only", authorization=f"Bearer {key}").status == 200


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_development_tokens_of_the_command_line_are_accepted(start, algorithm):
    gateway = start.gateway(start=False)
    token = development_issuer(gateway, "--alg", algorithm)
    gateway.start()
    with gateway.client() as client:
        assert ask(client, authorization=f"Bearer {token}").status == 200


# ---- And nothing of it is written down ----

def test_no_credential_is_in_any_log_or_at_the_backend(start, key, issuer):
    backend = start.backend()
    gateway = start.gateway(backend)
    good, bad = issuer.token("RS256"), issuer.token("RS256", aud="somebody-else")
    wrong_key = broken_keys(key)["checksum_wrong"]
    with gateway.client() as client:
        assert [ask(client, authorization=f"Bearer {value}").status for value in (key, good, bad, wrong_key)] == [200, 200, 401, 401]
        ask(client, x_api_key=key)
        ask(client, f"/v1/models?key={key}", authorization=f"Bearer {good}")
        client.request("POST", "/v1/chat/completions", key=key, body=CHAT)
        client.send(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nbad header\r\n\r\n")
        client.read_response()
    assert gateway.ctl("status").returncode == 0
    gateway.stop()
    written = b""
    for name in ("access.log", "stdout", "stderr"):
        with open(f"{gateway.directory}/{name}", "rb") as file:
            written += file.read()
    for secret in (key, key[12:55], good, good.rsplit(".", 1)[1], bad.rsplit(".", 1)[1], wrong_key[12:55]):
        assert secret.encode() not in written
    received = backend.bytes_received()
    for secret in (good, bad, good.rsplit(".", 1)[1]):
        assert secret.encode() not in received
    assert received.count(key.encode()) == 1, "only where the client put it into the URL itself"
    assert b"Hello" not in written, "and no prompt or answer"
    assert command("key", "list", "--file", gateway.directory + "/keys.yaml").stdout.count(key[12:55]) == 0
