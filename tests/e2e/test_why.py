"""`sallyport why`: a recent refusal told in sentences, and the same as JSON from the admin socket."""
import json
import os

import backend as behave
from harness import CHAT, command, free_port, wait_until
from test_limits import limited


def configure(config):
    config["roles"] = {"user": {"models": ["demo"]}, "chat": {"models": ["*"]}, "batch": {"models": ["demo"]}}
    config["models"] = {"demo": {"pool": "main"}, "large": {"pool": "main"}}
    config["limits"] = {"per-caller": limited("1/h", 3), "tokens-of-callers": {"by": ["subject"], "tokens": "60/h", "token_burst": 2000, "mode": "strict"}}
    api = {"path": "/v1/", "authenticate": ["jwt", "api_key"], "models": "body", "pool": "main"}
    config["routes"] = [{"name": "batch", "path": "/batch/", "authenticate": ["api_key"], "roles": ["batch"], "pool": "main"},
                        {"name": "limited", "path": "/limited/", "authenticate": ["api_key"], "limits": ["per-caller"], "pool": "main"},
                        {**api, "name": "tokens", "path": "/tokens/", "limits": ["tokens-of-callers"]},
                        {**api, "name": "api"}]


def why(gateway, request_id, *more):
    return command("why", request_id, "--socket", os.path.join(gateway.directory, "admin.sock"), *more)


def told(gateway, response):
    """What `why` says of a refused request, once it has been kept."""
    request_id = response.header("x-request-id")
    return wait_until(lambda: (lambda said: said.returncode == 0 and said.stdout)(why(gateway, request_id)), 5, "the refusal is kept")


def found(gateway, request_id):
    said = why(gateway, request_id, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["refusals"]


def test_an_unknown_api_key(gateway, client, backend, key):
    unknown = "sp_00000000" + key[11:]
    response = client.request("GET", "/v1/models", key=unknown)
    assert response.status == 401
    said = told(gateway, response)
    assert response.header("x-request-id") in said and "401" in said and "api key" in said and "from 127.0.0.1" in said
    assert "nobody known" in said and "route api" in said
    assert key[12:55] not in said and unknown not in said


def test_a_role_that_is_missing(gateway, client, backend, key):
    said = told(gateway, client.request("GET", "/batch/x", key=key))
    assert "403: role" in said and "user" in said and f"key {key[3:11]}" in said and "`roles` of the route" in said


def test_a_model_that_no_role_permits(gateway, client, backend, key):
    said = told(gateway, client.request("POST", "/v1/chat/completions", key=key, body={**CHAT, "model": "large"}))
    assert "403: model" in said and "model large" in said and "`models` of the role" in said


def test_a_limit_with_its_numbers(gateway, client, backend, keys):
    for _ in range(3):
        assert client.request("GET", "/limited/x", key=keys["second"]).status == 200
    response = client.request("GET", "/limited/x", key=keys["second"])
    assert response.status == 429
    said = told(gateway, response)
    assert "'per-caller' on requests: 1 asked for, 0 left, 3 at most" in said and "it would have fit after 1 h 0 min." in said
    assert "`request_burst`" in said and "second" in said
    [refusal] = found(gateway, response.header("x-request-id"))
    assert refusal["status"] == 429 and refusal["degraded"] is False and refusal["shadow"] is False
    assert {**refusal["limit"], "retry_after_ms": 0} == {"name": "per-caller", "kind": "requests", "asked": 1, "most": 3, "remaining": 0,
                                                        "retry_after_ms": 0}
    assert refusal["limit"]["retry_after_ms"] == int(response.header("retry-after-ms"))
    line = gateway.logged(response.header("x-request-id"))
    assert line["limit"] == "per-caller" and line["limit_kind"] == "requests"


def test_tokens_that_can_never_fit(gateway, client, backend, key):
    response = client.request("POST", "/tokens/chat/completions", key=key, body={**CHAT, "max_tokens": 5000})
    assert response.status == 400
    said = told(gateway, response)
    assert "'tokens-of-callers' on tokens" in said and "2000 at most" in said and "can never fit" in said and "it would have fit" not in said


def test_an_id_that_was_used_twice_is_told_twice(gateway, client, backend, key, keys):
    for secret in (key, keys["second"]):
        assert client.request("GET", "/batch/x", key=secret, headers={"X-Request-ID": "used-twice"}).status == 403
    refusals = wait_until(lambda: (lambda said: said.returncode == 0 and len(json.loads(said.stdout)["refusals"]) == 2 and said)(
        why(gateway, "used-twice", "--json")))
    refusals = json.loads(refusals.stdout)["refusals"]
    assert [refusal["subject"] for refusal in refusals] == ["second", "user"]
    assert "2 refusals have this ID" in why(gateway, "used-twice").stdout


def test_a_request_that_was_served_is_not_known_and_the_answer_says_how_far_back(gateway, client, backend, key):
    served = client.request("POST", "/v1/chat/completions", key=key, body=CHAT)
    assert served.status == 200
    gateway.logged(served.header("x-request-id"))
    said = why(gateway, served.header("x-request-id"))
    assert said.returncode == 1 and said.stdout == ""
    assert "no refusal of request" in said.stderr and "every refusal since 20" in said.stderr
    said = why(gateway, "never-heard-of", "--json")
    assert said.returncode == 1 and json.loads(said.stdout)["ok"] is False


def test_an_error_of_the_backend_is_no_refusal(gateway, client, backend, key):
    backend.on("/v1/chat/completions", lambda connection, request: connection.answer(500, {"error": "theirs"}))
    response = client.request("POST", "/v1/chat/completions", key=key, body=CHAT)
    assert response.status == 500
    gateway.logged(response.header("x-request-id"))
    assert why(gateway, response.header("x-request-id")).returncode == 1


def test_what_a_client_puts_into_a_request_cannot_command_a_terminal(gateway, client, backend, key):
    response = client.request("POST", "/v1/chat/completions", key=key, body={**CHAT, "model": "x\x1b]0;owned\x07\u009b31m\nRequest y"})
    assert response.status in (400, 404)
    said = told(gateway, response)
    assert "\x1b" not in said and "\x07" not in said and "\u009b" not in said
    assert [line for line in said.splitlines() if line.startswith("Request")] == [said.splitlines()[0]]


def test_wrong_usage_and_help():
    assert "usage: sallyport why REQUEST-ID" in command("why", "--help").stdout
    for arguments in ((), ("a", "b"), ("a b",), ("x" * 65,), ("a/b",), ("x", "--socket", "s", "--config", "c"), ("--wrong",)):
        wrong = command("why", *arguments)
        assert wrong.returncode == 2 and wrong.stdout == "" and "sallyport why" in wrong.stderr
    absent = command("why", "x", "--socket", "/nonexistent/admin.sock")
    assert absent.returncode == 1 and "is it running" in absent.stderr
    assert "why" in command("--help").stdout


def test_places_that_are_taken(start, key):
    def change(config):
        config["limits"] = {"at-once": {"by": ["subject"], "concurrency": 1}}
        config["routes"][0]["limits"] = ["at-once"]
    stream = behave.Held()
    backend = start.backend()
    backend.on("/v1/stream", stream)
    gateway = start.gateway(backend, change=change)
    with gateway.client() as first, gateway.client() as second:
        first.send_request("GET", "/v1/stream", key=key)
        first.read_head()
        response = second.request("GET", "/v1/models", key=key)
        assert response.status == 429
        said = told(gateway, response)
        assert "'at-once' on concurrency: all 1 places were taken" in said and "`concurrency` of the limit" in said
        [refusal] = found(gateway, response.header("x-request-id"))
        assert refusal["limit"]["kind"] == "concurrency" and refusal["limit"]["most"] == 1
        stream.put(None)


def test_a_decision_without_redis_says_so(start, key):
    def change(config):
        config["redis"] = {"url": f"redis://127.0.0.1:{free_port()}"}
        config["limits"] = {"per-caller": limited("1/h", 5, on_outage="closed")}
        config["routes"][0]["limits"] = ["per-caller"]
    gateway = start.gateway(change=change)
    response = gateway.ask("GET", "/v1/models", key=key)
    assert response.status == 429
    said = told(gateway, response)
    assert "'per-caller'" in said and "Redis was away" in said and "`on_outage`" in said
    [refusal] = found(gateway, response.header("x-request-id"))
    assert refusal["degraded"] is True


def test_a_backend_that_is_away(start, key):
    def change(config):
        config["pools"]["main"]["servers"] = [{"url": f"http://127.0.0.1:{free_port()}"}]
    gateway = start.gateway(change=change)
    response = gateway.ask("GET", "/v1/models", key=key)
    assert response.status in (502, 503)
    assert "sallyport ctl backends" in told(gateway, response)


def test_a_shadow_limit_is_told_as_one(start, key):
    def change(config):
        config["limits"] = {"tighter": limited("1/h", 1, shadow=True)}
        config["routes"][0]["limits"] = ["tighter"]
    gateway = start.gateway(change=change)
    with gateway.client() as client:
        client.request("GET", "/v1/models", key=key)
        response = client.request("GET", "/v1/models", key=key)
    assert response.status == 200
    said = told(gateway, response)
    assert "would have been refused" in said and "'tighter'" in said and "it was let through" in said


def test_refusals_outlive_the_worker_that_made_them(start, key):
    gateway = start.gateway()
    response = gateway.ask("GET", "/nowhere", key=key)
    assert response.status == 404
    told(gateway, response)
    [worker] = gateway.pids("worker")
    os.kill(worker, 9)
    wait_until(lambda: gateway.pids("worker") not in ([worker], []) and gateway.is_ready(), 10, "another worker")
    assert why(gateway, response.header("x-request-id")).returncode == 0
    again = gateway.ask("GET", "/nowhere", key=key)
    told(gateway, again)


def test_the_configuration_says_where_the_socket_is(start, key):
    gateway = start.gateway()
    response = gateway.ask("GET", "/nowhere", key=key)
    told(gateway, response)
    said = command("why", response.header("x-request-id"), "--config", os.path.join(gateway.directory, "sallyport.yaml"))
    assert said.returncode == 0 and "no route" in said.stdout
