"""What two readers of one request could disagree about must not pass where a model decides; what is changed in a body is changed rightly wherever
it stands; large bodies are tried again like small ones; memory is waited for; and nothing is cheaper for being written otherwise."""
import json
import random
import threading

import pytest
from backend import before_body
from harness import BrokenTransfer, free_port, join, wait_until

ALIAS = {"llama-3": "meta-llama/Llama-3.1-8B-Instruct", "shorter": "s", "c++": "c++"}
JSON = [("content-type", "application/json")]


def configure(config):
    config["roles"] = {"user": {"models": list(ALIAS)}, "batch": {"models": ["*"]}}
    config["models"] = {name: {"pool": "main", "as": alias} for name, alias in ALIAS.items()} | {"secret": {"pool": "main"}}
    config["routes"] = [{"name": "api", "path": "/v1/", "authenticate": ["api_key"], "models": "body", "max_body": "1MiB"}]


def post(client, body, key, path="/v1/chat/completions", headers=JSON):
    body = json.dumps(body) if isinstance(body, dict) else body
    return client.request("POST", path, headers=headers, body=body.encode() if isinstance(body, str) else body, key=key)


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "Good morning"}], **more}


def code(response):
    return response.json()["error"]["code"]


def part(name, value):
    return f'--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n'.encode()


# ---- Which model? ----

@pytest.mark.parametrize("other", ["Model", "MODEL", "mod\\u0045l", "m\\u004fdel"])
def test_a_member_that_case_alone_tells_from_the_model_is_400(client, backend, key, other):
    """Go's encoding/json, which Ollama is built on, would take the second one."""
    response = post(client, '{"model":"llama-3","%s":"secret","messages":[]}' % other, key)
    assert (response.status, code(response)) == (400, "invalid_json") and backend.requests == []


@pytest.mark.parametrize("body", [part("name=model", "llama-3") + part("name=Model", "secret"), part("name=model", "llama-3") + part("name=x; name*0=mo; name*1=del", "secret")],
                         ids=["case", "continued"])
def test_a_part_that_other_readers_may_take_for_the_model_is_400(client, backend, key, body):
    response = post(client, body + b"--x--\r\n", key, headers=[("content-type", "multipart/form-data; boundary=x")])
    assert (response.status, code(response)) == (400, "invalid_multipart") and backend.requests == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-7", "application/json; charset=utf-16", "application/json; charset*=utf-7",
                                          "multipart/form-data; boundary=x; charset=utf-7", "multipart/form-data; charset=cp037; boundary=x"])
def test_a_body_in_another_charset_is_415(client, backend, key, content_type):
    """Starlette decodes the names of parts by it, Node's body-parser the whole body: "+AG0-odel" is "model" in UTF-7."""
    body = json.dumps(chat("llama-3")) if "json" in content_type else part("name=model", "llama-3") + part('name="+AG0-odel"', "secret") + b"--x--\r\n"
    response = post(client, body, key, headers=[("content-type", content_type)])
    assert (response.status, code(response)) == (415, "unsupported_charset") and backend.requests == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'application/json;charset="UTF-8"', "application/json;"])
def test_utf8_may_be_said(client, backend, key, content_type):
    assert post(client, chat("llama-3"), key, headers=[("content-type", content_type)]).status == 200


@pytest.mark.parametrize("query", ["MODEL=secret", "Mod%45l=secret"])
def test_the_query_may_not_name_another_model_in_any_case(client, backend, key, query):
    assert post(client, chat("llama-3"), key, "/v1/chat/completions?" + query).status == 400
    assert backend.requests == []


@pytest.mark.parametrize("target", ["/v1/%6dodels", "/v1//models", "/v1/models/../models", "/v1/./models"])
def test_no_spelling_of_the_list_reaches_a_server(client, backend, key, target):
    assert client.request("GET", target, key=key).status in (400, 404)
    assert backend.requests == []


def test_a_plus_in_a_path_is_a_plus(client, key):
    assert client.request("GET", "/v1/models/c++", key=key).json()["id"] == "c++"
    assert client.request("GET", "/v1/models/c%2B%2B", key=key).json()["id"] == "c++"


def test_the_list_answers_head_without_a_body(client, key):
    response = client.request("HEAD", "/v1/models", key=key)
    assert response.status == 200 and int(response.header("content-length")) > 50
    assert client.request("GET", "/v1/models/secret", key=key).status == 404


@pytest.mark.parametrize("body,headers,status,kind", [
    (chat("nothing"), JSON, 404, "not_found_error"), (chat("secret"), JSON, 403, "permission_error"), ({"messages": []}, JSON, 400, "invalid_request_error"),
    ("{", JSON, 400, "invalid_request_error"), ("{}", [("content-type", "text/plain")], 415, "invalid_request_error")], ids=range(5))
def test_anthropics_clients_are_told_in_their_shape(client, backend, key, body, headers, status, kind):
    response = post(client, body, key, "/v1/messages", headers)
    assert response.status == status and response.json()["type"] == "error" and response.json()["error"]["type"] == kind
    assert backend.requests == []


# ---- What reaches the server ----

@pytest.mark.parametrize("model", ["llama-3", "shorter"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_body_is_changed_rightly_wherever_a_block_of_memory_ends(client, backend, key, model, stream):
    for at in list(range(16330, 16400, 7)) + [32736, 40000]:
        body = {"pad": "p" * (at - 20), "model": model, "messages": [{"content": "é" * 9000}]} | ({"stream": True, "stream_options": None} if stream else {})
        text = json.dumps(body, ensure_ascii=at % 2 == 0)
        assert post(client, text, key).status == 200
        seen = backend.requests[-1]
        assert json.loads(seen.body) == body | {"model": ALIAS[model]} | ({"stream_options": {"include_usage": True}} if stream else {})
        assert int(seen.header("content-length")) == len(seen.body)


def test_pipelined_bodies_do_not_run_into_each_other(client, backend, key):
    for model in ("llama-3", "shorter", "llama-3"):
        client.send_request("POST", "/v1/chat/completions", headers=JSON, body=json.dumps(chat(model, stream=True)).encode(), key=key)
    for _ in range(3):
        assert client.read_response("POST").status == 200
    assert [json.loads(request.body)["model"] for request in backend.requests] == [ALIAS["llama-3"], "s", ALIAS["llama-3"]]


@pytest.mark.parametrize("model,passes", [("llama-3", False), ("c++", True)])
def test_a_digest_of_the_body_passes_only_with_that_body(client, backend, key, model, passes):
    digest = ("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:")
    assert post(client, chat(model), key, headers=JSON + [digest]).status == 200
    assert (backend.requests[0].header("content-digest") == digest[1]) is passes


def test_an_error_in_answer_to_a_stream_keeps_its_length(client, backend, key):
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(400, {"error": {"message": "no"}}))
    response = post(client, chat("llama-3", stream=True), key)
    assert response.status == 400 and response.header("content-length") == str(len(response.body))


def test_a_server_that_answers_before_a_gathered_body_is_sent_is_heard(client, backend, key):
    backend.on("/v1/chat/completions", before_body(lambda connection, _: connection.answer(400, {"error": "mine"}, [("connection", "close")]) or False))
    assert post(client, chat("llama-3", pad="x" * 900000), key).status == 400


# ---- Large bodies are tried again ----

def closed():
    return {"url": f"http://127.0.0.1:{free_port()}"}


def test_a_large_body_of_which_nothing_was_sent_goes_to_another_server(start, key):
    alive = start.backend()

    def change(config):
        configure(config)
        config["pools"]["main"] = {"servers": [closed(), {"url": alive.url}], "retries": 1, "balance": "round_robin"}
    with start.gateway(alive, change=change).client() as client:
        for _ in range(6):
            assert post(client, chat("llama-3", pad="x" * 400000), key).status == 200
    assert all(len(json.loads(request.body)["pad"]) == 400000 for request in alive.requests)


def test_the_pool_of_a_fallback_has_all_its_retries(start, key):
    alive = start.backend()

    def change(config):
        configure(config)
        config["pools"] = {"main": {"servers": [closed()], "retries": 0},
                           "second": {"servers": [closed(), {"url": alive.url}], "retries": 1, "balance": "round_robin"}}
        config["models"]["llama-3"]["fallback"] = ["shorter"]
        config["models"]["shorter"]["pool"] = "second"
    gateway = start.gateway(alive, change=change)
    with gateway.client() as client:
        for _ in range(6):
            assert post(client, chat("llama-3"), key).status == 200
    assert {json.loads(request.body)["model"] for request in alive.requests} == {"s"}
    wait_until(lambda: [line["pool"] for line in gateway.log_lines()] == ["second"] * 6, 5, "the log names the pool that answered")


# ---- Memory is waited for ----

@pytest.fixture
def tight(start, key):
    """A gateway whose budget a slow upload has spent: (gateway, finish), of which the second makes it go on."""
    def change(config):
        configure(config)
        config["memory"] = {"bodies": "1MiB"}
    gateway = start.gateway(start.backend(), change=change)
    text = json.dumps(chat("llama-3", pad="x" * 1040000)).encode()
    with gateway.client(timeout=30) as slow:
        slow.send_request("POST", "/v1/chat/completions", headers=JSON + [("content-length", str(len(text)))], key=key)
        slow.send(text[:1038000])
        wait_until(lambda: gateway.metric("sallyport_body_bytes") > 1080000, 5, "the budget is nearly spent")

        def finish():
            slow.send(text[1038000:])
            assert slow.read_response("POST").status == 200
        yield gateway, finish
    wait_until(lambda: gateway.metric("sallyport_body_bytes") == 0, 5, "nothing is left over")


@pytest.mark.parametrize("kind", ["whole", "expects", "chunked"])
def test_a_request_that_finds_the_budget_spent_waits_until_it_is_not(tight, key, kind):
    gateway, finish = tight
    text = json.dumps(chat("llama-3", pad="y" * 1000)).encode()
    with gateway.client(timeout=30) as late:
        headers = JSON + ([("transfer-encoding", "chunked")] if kind == "chunked" else [("content-length", str(len(text)))])
        late.send_request("POST", "/v1/chat/completions", headers=headers + ([("expect", "100-continue")] if kind == "expects" else []), key=key)
        if kind == "chunked":
            late.send(b"".join(b"%x\r\n%s\r\n" % (len(text[i:i + 99]), text[i:i + 99]) for i in range(0, len(text), 99)) + b"0\r\n\r\n")
        if kind == "whole":
            late.send(text)
        wait_until(lambda: gateway.metric("sallyport_exchanges") == 2, 5, "both are under way")
        finish()
        if kind == "expects":
            assert late.read_head().status == 100
            late.send(text)
        assert late.read_response("POST").status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_what_scans_take_counts_against_the_budget_and_comes_back(start, key, workers):
    def change(config):
        configure(config)
        config["workers"] = workers
    gateway = start.gateway(start.backend(), change=change)
    clients = [gateway.client() for _ in range(20)]
    for client in clients:
        client.send_request("POST", "/v1/chat/completions", headers=JSON + [("content-length", "100")], key=key)
        client.send(b"{")
    wait_until(lambda: gateway.metric("sallyport_body_bytes") >= 20 * 44 * 1024, 5, "each scan counts")
    for client in clients:
        client.reset()
    wait_until(lambda: gateway.metric("sallyport_body_bytes") == 0 and gateway.metric("sallyport_exchanges") == 0, 5, "nothing is left over")


# ---- What it costs ----

BURST = 100000


def limited(config):
    configure(config)
    config["limits"] = {"budget": {"by": ["subject"], "tokens": "1000/h", "token_burst": BURST}}
    config["routes"] = [config["routes"][0] | {"limits": ["budget"], "max_tokens": {"default": 500}},
                        {"name": "unseen", "path": "/unseen/", "authenticate": ["api_key"], "pool": "main", "limits": ["budget"], "max_body": "1MiB",
                         "max_tokens": {"default": 300}}]


@pytest.fixture
def metered(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=limited)
    backend.on("/v1/probe", lambda connection, _: connection.answer(200, {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}))

    def spent():
        with gateway.client() as client:
            return BURST - int(post(client, {"model": "llama-3", "max_tokens": 1}, key, "/v1/probe").header("x-ratelimit-remaining-tokens")) - 1
    return gateway, backend, spent


def test_each_prompt_of_a_list_reserves_an_answer(metered, key):
    gateway, backend, _ = metered
    with gateway.client() as client:
        response = post(client, {"model": "llama-3", "prompt": ["a", "b", [1, 2], "c"], "n": 2, "max_tokens": 100}, key, "/v1/completions")
        assert 800 <= BURST - int(response.header("x-ratelimit-remaining-tokens")) <= 820
        response = post(client, {"model": "llama-3", "prompt": ["a"] * 300, "max_tokens": 1000}, key, "/v1/completions")
        assert (response.status, code(response)) == (400, "never_within_limit")


def test_a_reservation_past_all_numbers_is_400(metered, key):
    gateway, backend, spent = metered
    with gateway.client() as client:
        response = post(client, {"model": "llama-3", "prompt": ["a"] * 300, "n": 10**9, "max_tokens": 10**9}, key, "/v1/completions")
        assert (response.status, code(response)) == (400, "never_within_limit")
    assert spent() == 0 and len(backend.requests) == 1


def test_a_prompt_in_chunks_that_nobody_looks_at_costs_its_length_all_the_same(metered, key):
    gateway, backend, spent = metered
    backend.on("/unseen/x", lambda connection, _: connection.answer(200, {"choices": []}))
    with gateway.client() as client:
        client.send_request("POST", "/unseen/x", headers=[("content-type", "text/plain"), ("transfer-encoding", "chunked")], key=key)
        for _ in range(40):
            client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        client.send(b"0\r\n\r\n")
        assert client.read_response("POST").status == 200
    wait_until(lambda: 10000 <= spent() <= 10010, 5, "10,000 tokens are spent")


def test_what_the_server_sends_elsewhere_costs_nothing(metered, key):
    gateway, backend, spent = metered
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(307, b"", [("location", "/elsewhere")]))
    with gateway.client() as client:
        assert post(client, chat("llama-3"), key).status == 307
    wait_until(lambda: spent() == 0, 5, "nothing is spent")


# ---- Every way to end ----

def events(*data):
    return "".join(f"data: {json.dumps(item)}\n\n" for item in data)


def moody(dice):
    """A server that does anything: answers, streams, breaks off in every place, says nothing."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

    def behaviour(connection, request):
        mood = dice.randrange(9)
        if mood == 0:
            connection.abort()
            return False
        if mood == 1:
            return False
        if mood == 2:
            connection.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
            return False
        if mood == 3:
            return connection.answer(dice.choice([204, 307, 400, 500, 503]), b"")
        if mood == 4:
            return connection.wait_gone(0.3) and False
        if mood < 7:
            return connection.answer(200, {"usage": usage} if mood == 5 else b"\x1f\x8b", () if mood == 5 else [("content-encoding", "gzip")])
        connection.begin_stream()
        text = events({"choices": [{"delta": {"content": "x" * 3000}}]}, {"choices": [], "usage": usage}) + "data: [DONE]\n\n"
        while text:
            size = dice.randrange(1, 2000)
            connection.chunk(text[:size])
            text = text[size:]
            if dice.randrange(20) == 0:
                connection.abort()
                return False
        return connection.end_stream()
    return behaviour


def unruly(gateway, key, seed, count):
    """A client that asks for anything and leaves at any moment."""
    dice = random.Random(seed)
    client = gateway.client()
    for _ in range(count):
        text = json.dumps(chat(dice.choice(["llama-3", "shorter", "secret", "c++", "none"]), stream=dice.choice([True, False, None]),
                               pad="x" * dice.choice([0, 1000, 20000, 400000]), max_tokens=dice.choice([None, 1, 100, 200000]))).encode()
        text = text[:-1] if dice.randrange(10) == 0 else text
        client.send_request("POST", "/v1/chat/completions", headers=JSON + [("content-length", str(len(text)))], key=key)
        try:
            if dice.randrange(6) == 0:
                client.send(text[:dice.randrange(len(text))])
                raise BrokenTransfer("left")
            client.send(text)
            if dice.randrange(6) == 0:
                raise BrokenTransfer("left")
            if client.read_response("POST").header("connection") != "close":
                continue
        except (BrokenTransfer, OSError):
            pass
        client.reset()
        client = gateway.client()
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("redis", [False, True], ids=["here", "redis"])
def test_whatever_way_requests_end_nothing_is_left_over(start, key, request, redis):
    backend, other = start.backend(), start.backend()

    def change(config):
        limited(config)
        config["workers"] = 2
        config["memory"] = {"bodies": "4MiB"}
        config["pools"] = {"main": {"servers": [{"url": backend.url, "max_in_flight": 3}], "retries": 1, "queue": {"depth": 4, "timeout": "200ms"}},
                           "other": {"servers": [{"url": other.url, "max_in_flight": 2}, closed()], "retries": 1}}
        config["models"]["shorter"]["pool"] = "other"
        config["models"]["llama-3"]["fallback"] = ["secret", "shorter"]
        config["limits"]["budget"]["concurrency"] = 12
        config["limits"]["budget"]["token_burst"] = 10**6
        if redis:
            config["redis"] = {"url": request.getfixturevalue("redis_server").url, "deadline": "500ms"}
    gateway = start.gateway(backend, change=change)
    for server in (backend, other):
        server.on("/v1/chat/completions", moody(random.Random(7)))
    threads = [threading.Thread(target=unruly, args=(gateway, key, seed, 60), daemon=True) for seed in range(6)]
    for thread in threads:
        thread.start()
    join(threads, 90)
    wait_until(lambda: gateway.metric("sallyport_exchanges") == 0 and gateway.metric("sallyport_body_bytes") == 0, 10, "nothing is under way")
    for server in (backend, other):
        server.on("/v1/probe", lambda connection, _: connection.answer(200, {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}))
        server.on("/v1/chat/completions", lambda connection, _: connection.wait_gone(10) and False)

    def spent():
        return sum(line["tokens_in"] + line["tokens_out"] for line in gateway.log_lines() if line.get("tokens_in") is not None)

    def left():
        with gateway.client() as client:
            return int(post(client, {"model": "llama-3", "max_tokens": 1}, key, "/v1/probe").header("x-ratelimit-remaining-tokens")) + 1
    wait_until(lambda: abs(10**6 - left() - spent()) <= 20, 10, "as many tokens are gone as the log says, no more and no less")
    held = [gateway.client() for _ in range(5)]  # all places at the servers are free again
    for client, model in zip(held, ["llama-3"] * 3 + ["shorter"] * 2):
        client.send_request("POST", "/v1/chat/completions", headers=JSON, body=json.dumps(chat(model)).encode(), key=key)
    wait_until(lambda: gateway.metric("sallyport_exchanges") == 5, 5, "all are under way")
    wait_until(lambda: sum(c.closed_at is None and c.served > 0 for s in (backend, other) for c in s.connections) >= 5, 5, "all are with a server")
    for client in held:
        client.reset()
