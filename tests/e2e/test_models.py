"""Routes decided by the model that the body names: permissions, aliases, fallbacks, the list, and bodies that are refused."""
import json

import pytest
from harness import wait_until


def configure(config):
    main = config["pools"]["main"]
    config["pools"] = {"main": main, "other": json.loads(json.dumps(main))}
    config["roles"] = {"user": {"models": ["llama-*", "embed", "whisper", "down"]}, "batch": {"models": ["*"]}, "chat": {"models": ["llama-3"]}}
    config["models"] = {
        "llama-3": {"pool": "main", "as": "meta-llama/Llama-3.1-8B-Instruct"},
        "llama-2": {"pool": "main"},
        "embed": {"pool": "main"},
        "whisper": {"pool": "main", "as": "openai/whisper-large-v3-turbo"},
        "secret-model": {"pool": "main"},
        "quoted": {"pool": "main", "as": "a/b:c-d_e.f@g"},
    }
    config["routes"] = [{"name": "api", "path": "/v1/", "authenticate": ["jwt", "api_key"], "models": "body", "max_body": "1MiB"},
                        {"name": "files", "path": "/files/", "authenticate": ["api_key"], "models": "body", "pool": "other", "strip_prefix": "/files"},
                        {"name": "open", "path": "/open/", "authenticate": ["none"], "models": "body", "strip_prefix": "/open"}]


def ask(client, body, key, path="/v1/chat/completions", headers=(), method="POST"):
    if isinstance(body, dict):
        body = json.dumps(body)
    headers = list(headers)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    return client.request(method, path, headers=headers, body=body.encode() if isinstance(body, str) else body, key=key)


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "Good morning"}], **more}


def code(response):
    return response.json()["error"]["code"]


# ---- Names ----

def test_an_alias_is_rewritten_and_the_length_is_right(client, backend, key):
    response = ask(client, chat("llama-3", temperature=0.5), key)
    assert response.status == 200
    [seen] = backend.requests
    assert json.loads(seen.body) == chat("meta-llama/Llama-3.1-8B-Instruct", temperature=0.5)
    assert int(seen.header("content-length")) == len(seen.body) and not seen.header("transfer-encoding")


def test_a_name_without_an_alias_passes_byte_for_byte(client, backend, key):
    body = '{ "messages":[ {"role":"user","content":"caf\\u00e9 \\n"} ],\t"model" : "llama-2" }\r\n'
    assert ask(client, body, key).status == 200
    assert backend.requests[0].body == body.encode()


def test_a_name_written_with_escapes_is_the_same_name(client, backend, key):
    assert ask(client, '{"model":"\\u006clama\\u002d3","messages":[]}', key).status == 200
    assert json.loads(backend.requests[0].body)["model"] == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize("place", ["first", "last"])
def test_an_alias_is_rewritten_wherever_it_stands_in_a_large_body(client, backend, key, place):
    messages = [{"role": "user", "content": "x" * 200000}]
    body = {"model": "llama-3", "messages": messages} if place == "first" else {"messages": messages, "model": "llama-3"}
    assert ask(client, body, key).status == 200
    seen = json.loads(backend.requests[0].body)
    assert seen["model"] == "meta-llama/Llama-3.1-8B-Instruct" and seen["messages"] == messages


def test_a_chunked_body_is_sent_on_with_its_length(client, backend, key):
    text = json.dumps(chat("llama-3")).encode()
    client.send_request("POST", "/v1/chat/completions", headers=[("content-type", "application/json"), ("transfer-encoding", "chunked")], key=key)
    for i in range(0, len(text), 7):
        piece = text[i:i + 7]
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")
    assert client.read_response("POST").status == 200
    assert json.loads(backend.requests[0].body)["model"] == "meta-llama/Llama-3.1-8B-Instruct"


def test_a_client_that_expects_100_is_told_to_go_on(client, backend, key):
    text = json.dumps(chat("llama-2")).encode()
    client.send_request("POST", "/v1/chat/completions", key=key,
                        headers=[("content-type", "application/json"), ("content-length", str(len(text))), ("expect", "100-continue")])
    assert client.read_head().status == 100
    client.send(text)
    assert client.read_response("POST").status == 200


def test_an_upload_names_its_model_in_a_part(client, backend, key):
    body = (b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n' + bytes(range(256)) * 1000 +
            b'\r\n--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--xyz--\r\n')
    response = ask(client, body, key, "/v1/audio/transcriptions", [("content-type", "multipart/form-data; boundary=xyz")])
    assert response.status == 200
    assert backend.requests[0].body == body.replace(b"whisper", b"openai/whisper-large-v3-turbo")


# ---- Permissions ----

def test_an_unknown_model_is_404_and_nothing_reaches_a_server(client, backend, key):
    response = ask(client, chat("gpt-9"), key)
    assert (response.status, code(response)) == (404, "model_not_found")
    assert "llama" not in response.body.decode() and backend.requests == []


def test_a_model_that_the_roles_do_not_name_is_403(client, backend, key):
    response = ask(client, chat("secret-model"), key)
    assert (response.status, code(response)) == (403, "model_not_permitted")
    assert backend.requests == []


def test_another_role_may(client, keys):
    assert ask(client, chat("secret-model"), keys["batch"]).status == 200


def test_the_list_shows_what_the_caller_may_use(client, backend, key, keys):
    mine = client.request("GET", "/v1/models", key=key).json()
    assert mine["object"] == "list" and {model["id"] for model in mine["data"]} == {"llama-3", "llama-2", "embed", "whisper"}
    assert all(model["object"] == "model" for model in mine["data"])
    all_of_them = client.request("GET", "/v1/models", key=keys["batch"]).json()
    assert "secret-model" in {model["id"] for model in all_of_them["data"]}
    assert backend.requests == []


def test_one_model_of_the_list(client, key):
    assert client.request("GET", "/v1/models/llama-3", key=key).json()["id"] == "llama-3"
    assert client.request("GET", "/v1/models/secret-model", key=key).status == 404
    assert client.request("GET", "/v1/models/nothing", key=key).status == 404


def test_anthropics_clients_read_the_list_in_their_shape(client, key):
    shown = client.request("GET", "/v1/models", key=key, headers=[("anthropic-version", "2023-06-01")]).json()
    assert shown["has_more"] is False and shown["first_id"] == "embed" and shown["last_id"] == "whisper"
    assert all(model["type"] == "model" and model["display_name"] for model in shown["data"])


def test_a_route_open_to_all_takes_every_model(client, backend):
    assert ask(client, chat("secret-model"), None, "/open/v1/chat/completions").status == 200


# ---- What is refused ----

@pytest.mark.parametrize("body", ["", "[]", "{", '{"model":"llama-2"', '{"model":"llama-2"}x', '{"model":"llama-2","model":"secret-model"}',
                                  '{"model":"llama-2","a":01}', '{"model":"llama-2","a":"\x01"}', '{"model":"llama-2",}', '{"a":' * 70 + "1" + "}" * 70],
                         ids=range(10))
def test_what_is_not_json_to_the_letter_is_400(client, backend, key, body):
    response = ask(client, body, key)
    assert response.status in (400,) and backend.requests == []


def test_a_refused_body_does_not_end_the_connection_when_it_was_whole(client, backend, key):
    assert ask(client, '{"model":7}', key).status == 400
    assert ask(client, chat("llama-2"), key).status == 200


def test_a_body_without_a_model_is_400_and_says_so(client, backend, key):
    response = ask(client, {"messages": []}, key)
    assert (response.status, code(response)) == (400, "model_required")


def test_without_a_model_the_routes_own_pool_takes_it(client, backend, key):
    assert ask(client, {"purpose": "batch"}, key, "/files/v1/batches").status == 200
    assert backend.requests[0].target == "/v1/batches"


@pytest.mark.parametrize("headers", [[("content-type", "text/plain")], [("content-type", "application/x-www-form-urlencoded")],
                                     [("content-type", "application/json"), ("content-encoding", "gzip")]], ids=str)
def test_a_body_that_cannot_be_read_is_415(client, backend, key, headers):
    assert ask(client, chat("llama-2"), key, headers=headers).status == 415
    assert backend.requests == []


@pytest.mark.parametrize("query,status", [("model=llama-2", 200), ("model=llama%2D2&x=1", 200), ("model=secret-model", 400), ("a=b&model=", 400)])
def test_the_query_may_not_name_another_model(client, backend, key, query, status):
    assert ask(client, chat("llama-2"), key, "/v1/chat/completions?" + query).status == status


def test_a_body_larger_than_the_route_takes_is_413(client, backend, key):
    client.send_request("POST", "/v1/chat/completions", headers=[("content-type", "application/json"), ("content-length", str(2 << 20))], key=key)
    assert client.read_response("POST").status == 413
    assert backend.requests == []


# ---- The budget ----

@pytest.mark.slow
def test_bodies_that_wait_for_the_budget_too_long_are_503_and_the_rest_goes_on(start, key):
    def small(config):
        configure(config)
        config["memory"] = {"bodies": "1MiB"}
        for route in config["routes"]:
            route["max_body"] = "1MiB"
    gateway = start.gateway(start.backend(), change=small)
    text = json.dumps(chat("llama-2", pad="x" * 900000)).encode()
    with gateway.client(timeout=30) as slow, gateway.client(timeout=30) as late, gateway.client() as other:
        slow.send_request("POST", "/v1/chat/completions", headers=[("content-type", "application/json"), ("content-length", str(len(text)))], key=key)
        slow.send(text[:700000])
        wait_until(lambda: gateway.metric("sallyport_body_bytes") > 700000, 5, "most of the budget is spent")
        response = ask(late, text, key)
        assert response.status == 503 and response.header("retry-after")
        assert ask(other, chat("llama-2"), key).status == 200
        slow.send(text[700000:])
        assert slow.read_response("POST").status == 200


# ---- Fallbacks ----

@pytest.fixture
def two_pools(start):
    first, second = start.backend(), start.backend()

    def change(config):
        configure(config)
        config["pools"] = {"first": {"servers": [{"url": first.url, "max_in_flight": 1}]}, "second": {"servers": [{"url": second.url}]}}
        config["models"] = {"big": {"pool": "first", "as": "real/big", "fallback": ["secret", "small"]}, "small": {"pool": "second", "as": "real/small"},
                            "secret": {"pool": "second"}}
        config["roles"]["user"]["models"] = ["big", "small"]
        config["routes"] = [config["routes"][0]]
    return start.gateway(first, second, change=change), first, second


def test_where_the_pool_is_down_the_next_permitted_model_is_asked(two_pools, key):
    gateway, first, second = two_pools
    first.stop()
    with gateway.client() as client:
        assert ask(client, chat("big"), key).status == 200
    [seen] = second.requests
    assert json.loads(seen.body)["model"] == "real/small" and int(seen.header("content-length")) == len(seen.body)
    line = wait_until(lambda: next((line for line in gateway.log_lines() if line.get("pool") == "second"), None), 5, "the log line")
    assert line["status"] == 200


def test_where_the_pool_is_busy_the_next_model_is_asked(two_pools, key):
    gateway, first, second = two_pools
    first.on("/v1/chat/completions", lambda connection, request: connection.wait_gone(10) and False)
    with gateway.client() as waiting, gateway.client() as client:
        waiting.send_request("POST", "/v1/chat/completions", headers=[("content-type", "application/json")], body=json.dumps(chat("big")).encode(), key=key)
        wait_until(lambda: first.requests, 5, "the first request")
        assert ask(client, chat("big"), key).status == 200
    assert json.loads(second.requests[0].body)["model"] == "real/small"


def test_an_answer_of_the_first_pool_is_final(two_pools, key):
    gateway, first, second = two_pools
    first.on("/v1/chat/completions", lambda connection, request: connection.answer(500, {"error": "mine"}))
    with gateway.client() as client:
        assert ask(client, chat("big"), key).status == 500
    assert second.requests == []
