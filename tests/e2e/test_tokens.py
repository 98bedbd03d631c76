"""Tokens of language models: reserved before, settled after, exactly once, whatever way an exchange ends. With and without Redis.

What a caller has left is measured from outside: a probe costs nothing (the backend says so), and its answer tells what was left while the
probe's own reservation was taken."""
import json
import os
import random
import signal
import threading

import pytest
from backend import before_body
from harness import wait_until
from test_peers import node

BURST = 100000


def configure(config):
    config["limits"] = {"budget": {"by": ["subject"], "tokens": "1000/h", "token_burst": BURST}}
    config["models"] = {"m": {"pool": "main"}, "short": {"pool": "main"}}
    config["routes"] = [
        {"name": "api", "path": "/v1/", "authenticate": ["api_key"], "models": "body", "limits": ["budget"],
         "max_tokens": {"default": 500, "cap": 4000}, "timeouts": {"first_byte": "2s", "idle": "2s", "total": "6s"}},
        {"name": "unseen", "path": "/unseen/", "authenticate": ["api_key"], "pool": "main", "limits": ["budget"], "max_tokens": {"default": 300}},
    ]


@pytest.fixture(params=["here", "redis", "redis strict"])
def place(request, start):
    backend = start.backend()
    redis = request.getfixturevalue("redis_server") if request.param != "here" else None

    def change(config):
        configure(config)
        if redis:
            config["redis"] = {"url": redis.url, "deadline": "500ms"}
            config["limits"]["budget"]["mode"] = "strict" if request.param.endswith("strict") else "leased"
    gateway = start.gateway(backend, change=change)
    backend.on("/v1/probe", lambda connection, _: connection.answer(200, {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}))
    return gateway, backend


def post(client, path, body, key, **more):
    return client.request("POST", path, body=body, key=key, **more)


def chat(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "Good morning"}], **more}


def left(gateway, key):
    """What the caller has, nothing being reserved: whole tokens, a little more each minute."""
    with gateway.client() as client:
        response = post(client, "/v1/probe", {"model": "m", "max_tokens": 1}, key)
        assert response.status == 200, response
        return int(response.header("x-ratelimit-remaining-tokens")) + 1


def settles_to(gateway, key, spent, slack=3):
    """The caller is charged `spent` in all; settlement may take a moment, never more."""
    wait_until(lambda: abs(BURST - spent - left(gateway, key)) <= slack, 8, f"{spent} are spent")


def usage(prompt, completion):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def events(*documents, done=True):
    text = "".join(f"data: {json.dumps(document)}\n\n" for document in documents)
    return text + ("data: [DONE]\n\n" if done else "")


def chunk(text, **more):
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def stream(*pieces):
    def behaviour(connection, _):
        connection.begin_stream()
        for piece in pieces:
            connection.chunk(piece)
        connection.end_stream()
    return behaviour


def logged(gateway, response):
    return gateway.logged(response.header("x-request-id"))


# ---- What the answer says ----

def test_a_plain_answer_settles_to_its_usage(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"choices": [], "usage": usage(1000, 234)}))
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(), key)
        remaining = int(response.header("x-ratelimit-remaining-tokens"))
    assert BURST - 530 < remaining < BURST - 500  # while it ran: the estimate of the prompt and 500 for the answer
    settles_to(gateway, key, 1234)
    line = logged(gateway, response)
    assert (line["tokens_in"], line["tokens_out"], line["usage"], line["model"]) == (1000, 234, "reported", "m")


def test_an_answer_that_took_more_than_was_reserved_is_charged_in_full(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": usage(50000, 40000)}))
    with gateway.client() as client:
        assert post(client, "/v1/chat/completions", chat(max_tokens=5), key).status == 200
    settles_to(gateway, key, 90000)


def test_debt_is_refused_with_a_wait_and_nothing_is_given_away(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": usage(60000, 60000)}))
    with gateway.client() as client:
        assert post(client, "/v1/chat/completions", chat(), key).status == 200
        response = wait_until(lambda: (lambda r: r if r.status == 429 else None)(post(client, "/v1/probe", {"model": "m", "max_tokens": 1}, key)), 5, "the debt")
    assert int(response.header("retry-after")) > 3600 * 19  # twenty thousand at a thousand an hour
    assert response.header("x-ratelimit-remaining-tokens") == "0" and response.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_stream_that_was_not_asked_for_usage_settles_to_it_and_the_client_never_sees_it(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", stream(events(chunk("Hello"), done=False), events(chunk(" there"), {"choices": [], "usage": usage(77, 33)})))
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(stream=True), key)
    assert json.loads(backend.requests[0].body)["stream_options"] == {"include_usage": True}
    assert response.body.decode() == events(chunk("Hello"), chunk(" there"))
    settles_to(gateway, key, 110)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("size", [100_000, 170_000, 255_000, 400_000])
def test_an_event_of_any_size_arrives_whole_though_usage_is_kept_back(place, key, size, ends):
    """As much as a held event, on top of what a client that reads late has not taken yet."""
    gateway, backend = place
    text = events(*[chunk("a" * 8000)] * 10, chunk("x" * size), done=False)
    text = text if ends else text[:-1]
    pieces = [text[at:at + 16000] for at in range(0, len(text), 16000)]
    backend.on("/v1/chat/completions", stream(*pieces, *([events({"choices": [], "usage": usage(77, 33)}, done=False)] if ends else [])))
    with gateway.client(receive_buffer=8192) as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(stream=True), key=key)
        assert backend.wait_for(lambda b: b.requests)
        response = client.read_response("POST")
    assert response.body.decode() == text
    assert logged(gateway, response)["reason"] == "ok"


def test_a_stream_that_was_asked_for_usage_keeps_the_event(place, key):
    gateway, backend = place
    text = events(chunk("Hello"), {"choices": [], "usage": usage(77, 33)})
    backend.on("/v1/chat/completions", stream(text[:50], text[50:]))
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}), key)
    assert response.body.decode() == text
    settles_to(gateway, key, 110)


def test_other_stream_options_are_kept(place, key):
    gateway, backend = place
    backend.on("/v1/completions", stream(events({"choices": [{"text": "a"}]}, {"choices": [], "usage": usage(1, 2)})))
    with gateway.client() as client:
        post(client, "/v1/completions", {"stream_options": {"include_usage": False, "x": [1]}, "model": "m", "prompt": "a", "stream": True}, key)
    assert json.loads(backend.requests[0].body)["stream_options"] == {"include_usage": True, "x": [1]}


def test_anthropics_stream_settles(place, key):
    gateway, backend = place
    text = "".join(f"event: {d['type']}\ndata: {json.dumps(d)}\n\n" for d in (
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}, {"type": "message_stop"}))
    backend.on("/v1/messages", stream(text))
    with gateway.client() as client:
        assert post(client, "/v1/messages", chat(stream=True, max_tokens=50), key).body.decode() == text
    settles_to(gateway, key, 135)


def test_the_responses_stream_settles(place, key):
    gateway, backend = place
    text = events({"type": "response.output_text.delta", "delta": "Hi"},
                  {"type": "response.completed", "response": {"usage": {"input_tokens": 40, "output_tokens": 2, "total_tokens": 42}}}, done=False)
    backend.on("/v1/responses", stream(text))
    with gateway.client() as client:
        assert post(client, "/v1/responses", {"model": "m", "input": "Hello", "stream": True}, key).body.decode() == text
    settles_to(gateway, key, 42)


def test_embeddings_cost_their_input_alone(place, key):
    gateway, backend = place
    backend.on("/v1/embeddings", lambda connection, _: connection.answer(200, {"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}))
    with gateway.client() as client:
        response = post(client, "/v1/embeddings", {"model": "m", "input": ["a" * 40]}, key)
    assert int(response.header("x-ratelimit-remaining-tokens")) > BURST - 100
    settles_to(gateway, key, 9)


RANKED = {"model": "m", "query": "a" * 40, "documents": ["b" * 400, {"text": "c" * 400}]}
SCORED = {"model": "m", "text_1": "a" * 40, "text_2": ["b" * 400, "c" * 400]}
UNNAMED = {"model": "m", "what": "nobody knows"}


@pytest.mark.parametrize("path,body", [("/v1/rerank", RANKED), ("/v1/score", SCORED), ("/v1/rerank", UNNAMED), ("/v1/classify", UNNAMED)],
                         ids=["rerank", "score", "rerank without a known member", "classify without one"])
def test_what_ranks_and_scores_is_charged_and_refused_when_nothing_is_left(start, key, path, body):
    def change(config):
        configure(config)
        config["limits"]["budget"]["token_burst"] = 1000
    backend = start.backend()
    backend.on(path, lambda connection, _: connection.answer(200, {"results": [], "usage": {"total_tokens": 2000}}))
    with start.gateway(backend, change=change).client() as client:
        first = post(client, path, body, key)
        assert first.status == 200
        taken = 1000 - int(first.header("x-ratelimit-remaining-tokens"))
        assert taken == 1 if body is UNNAMED else 210 <= taken <= 211
        response = post(client, path, body, key)
        assert (response.status, response.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(response.header("retry-after")) > 3000  # a thousand of debt, at a thousand an hour
        assert len(backend.requests) == 1


def test_what_nobody_looks_at_is_charged_though_no_byte_of_it_was_there_when_it_was_reserved_for(place, key):
    gateway, backend = place
    backend.on("/unseen/rerank", lambda connection, _: connection.answer(200, {"results": [], "usage": {"total_tokens": 2000}}))
    with gateway.client() as client:
        client.send_request("POST", "/unseen/rerank", headers=[("content-type", "text/plain"), ("transfer-encoding", "chunked")], key=key)
        client.send(b"0\r\n\r\n")
        assert client.read_response("POST").status == 200
    settles_to(gateway, key, 2000)


def test_an_answer_without_usage_costs_a_stated_estimate_and_the_log_says_so(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"choices": [{"message": {"content": "x" * 400}}]}))
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(), key)
    line = logged(gateway, response)
    assert line["usage"] == "estimated" and line["tokens_out"] == 100 and 8 <= line["tokens_in"] <= 20
    settles_to(gateway, key, line["tokens_in"] + 100)


def test_an_answer_that_cannot_be_read_costs_what_was_reserved(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, b"\x1f\x8b....", [("content-encoding", "gzip")]))
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(), key)
    settles_to(gateway, key, BURST - int(response.header("x-ratelimit-remaining-tokens")))


def test_where_bodies_are_not_looked_at_their_length_is_the_estimate_and_usage_still_counts(place, key):
    gateway, backend = place
    backend.on("/unseen/x", lambda connection, _: connection.answer(200, {"usage": usage(3, 4)}))
    with gateway.client() as client:
        response = client.request("POST", "/unseen/x", body=b"x" * 4000, headers=[("content-type", "text/plain")], key=key)
    assert BURST - int(response.header("x-ratelimit-remaining-tokens")) == 1300
    settles_to(gateway, key, 7)


# ---- What ends otherwise ----

@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_what_the_backend_refuses_costs_nothing(place, key, status):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(status, {"error": {"message": "no"}}))
    with gateway.client() as client:
        assert post(client, "/v1/chat/completions", chat(), key).status == status
    settles_to(gateway, key, 0)


def test_what_no_server_saw_costs_nothing(place, key):
    gateway, backend = place
    backend.stop()
    with gateway.client() as client:
        assert post(client, "/v1/chat/completions", chat(), key).status in (502, 503)
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(), key)
    assert int(response.header("x-ratelimit-remaining-tokens")) > BURST - 600


def test_a_client_that_leaves_before_an_answer_pays_for_the_prompt(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.wait_gone() and False)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(messages=[{"role": "user", "content": "x" * 4000}]), key=key)
        wait_until(lambda: backend.requests, 5, "the request")
        client.reset()
    settles_to(gateway, key, 1008)


def test_a_client_that_leaves_in_the_middle_pays_for_what_was_said(place, key):
    gateway, backend = place

    def behaviour(connection, _):
        connection.begin_stream()
        connection.chunk(events(chunk("x" * 2000), done=False))
        return connection.wait_gone() and False
    backend.on("/v1/chat/completions", behaviour)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(stream=True), key=key)
        client.read_head()
        client.read_chunk()
        client.reset()
    settles_to(gateway, key, 511, slack=8)


def test_a_backend_that_breaks_off_is_charged_for_what_was_said(place, key):
    gateway, backend = place

    def behaviour(connection, _):
        connection.begin_stream()
        connection.chunk(events(chunk("x" * 2000), done=False))
        connection.abort()
        return False
    backend.on("/v1/chat/completions", behaviour)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(stream=True), key=key)
        with pytest.raises(Exception):
            client.read_response("POST")
    settles_to(gateway, key, 511, slack=8)


@pytest.mark.slow
@pytest.mark.parametrize("begins", [False, True], ids=["first byte", "idle"])
def test_a_backend_that_is_too_slow_is_settled_at_its_time_out(place, key, begins):
    gateway, backend = place

    def behaviour(connection, _):
        if begins:
            connection.begin_stream()
            connection.chunk(events(chunk("x" * 2000), done=False))
        return connection.wait_gone(20) and False
    backend.on("/v1/chat/completions", behaviour)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(stream=True), key=key)
        if begins:
            with pytest.raises(Exception):
                client.read_response("POST")
        else:
            assert client.read_response("POST").status == 504
    settles_to(gateway, key, 511 if begins else 11, slack=8)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_settled_by_its_successor(place, key):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.wait_gone(20) and False)
    with gateway.client() as client:
        client.send_request("POST", "/v1/chat/completions", body=chat(max_tokens=4000), key=key)
        wait_until(lambda: backend.requests, 5, "the request")
        assert left(gateway, key) < BURST - 3900
        os.kill(gateway.workers()[0], signal.SIGKILL)
    settles_to(gateway, key, 0, slack=40)


# ---- Bounds ----

def test_a_reservation_that_can_never_fit_is_400_with_the_numbers(start, key):
    def change(config):
        configure(config)
        config["limits"]["budget"]["token_burst"] = 1000
    with start.gateway(start.backend(), change=change).client() as client:
        response = post(client, "/v1/chat/completions", chat(max_tokens=1001), key)
        assert response.status == 400 and "1000" in response.json()["error"]["message"] and "10" in response.json()["error"]["message"]
        assert response.json()["error"]["code"] == "never_within_limit" and not response.header("retry-after")
        assert post(client, "/v1/chat/completions", chat(max_tokens=900), key).status == 200


def test_more_than_the_cap_is_400_with_both_numbers(place, key):
    gateway, backend = place
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(max_tokens=4001), key)
    assert response.status == 400 and "4001" in response.json()["error"]["message"] and "4000" in response.json()["error"]["message"]
    assert backend.requests == []


def test_what_llama_cpp_reads_instead_of_max_tokens_is_held_to_the_cap_too(start, key):
    def change(config):
        configure(config)
        config["routes"][0]["max_tokens"] = {"default": 128, "cap": 256}
    backend = start.backend()
    with start.gateway(backend, change=change).client() as client:
        response = post(client, "/v1/chat/completions", chat(max_tokens=16, n_predict=1000), key)
        assert (response.status, response.json()["error"]["code"]) == (400, "max_tokens_too_large")
        assert post(client, "/v1/chat/completions", chat(n_predict=-1), key).json()["error"]["code"] == "invalid_json"
        assert backend.requests == []
        assert post(client, "/v1/chat/completions", chat(max_tokens=16, n_predict=256), key).status == 200


def test_n_answers_reserve_n_times(place, key):
    gateway, backend = place
    with gateway.client() as client:
        response = post(client, "/v1/chat/completions", chat(max_tokens=1000, n=3), key)
    assert BURST - 3030 < int(response.header("x-ratelimit-remaining-tokens")) < BURST - 3000


def test_who_waits_as_told_succeeds_at_the_next_try(start, key):
    def change(config):
        configure(config)
        config["limits"]["budget"] = {"by": ["subject"], "tokens": "600/s", "token_burst": 1000}
    backend = start.backend()
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": usage(500, 500)}))
    with start.gateway(backend, change=change).client() as client:
        assert post(client, "/v1/chat/completions", chat(max_tokens=900), key).status == 200
        refused = post(client, "/v1/chat/completions", chat(max_tokens=900), key)
        assert refused.status == 429
        wait_ms = int(refused.header("retry-after-ms"))
        assert 1000 < wait_ms < 1700 and refused.header("x-ratelimit-limit-tokens") == "1000"
        threading.Event().wait(wait_ms / 1000)
        assert post(client, "/v1/chat/completions", chat(max_tokens=900), key).status == 200


def test_a_refused_request_takes_nothing_from_other_limits(start, key):
    def change(config):
        configure(config)
        config["limits"]["narrow"] = {"by": ["subject"], "tokens": "10/h", "token_burst": 600}
        config["limits"]["count"] = {"by": ["subject"], "requests": "100/h", "request_burst": 100}
        config["routes"][0]["limits"] = ["budget", "count", "narrow"]
    backend = start.backend()
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": usage(300, 290)}))
    gateway = start.gateway(backend, change=change)
    with gateway.client() as client:
        first = post(client, "/v1/chat/completions", chat(), key)
        assert first.status == 200
        for _ in range(5):
            assert post(client, "/v1/chat/completions", chat(), key).status == 429
        response = post(client, "/v1/embeddings", {"model": "m", "input": ""}, key)
    assert response.header("x-ratelimit-remaining-requests") == "98"


# ---- Many, and a third of them leaves ----

@pytest.mark.slow
@pytest.mark.measures
def test_of_many_requests_of_which_a_third_leaves_no_tokens_and_no_places_are_left_over(start, key, redis_server):
    requests = int(os.environ.get("SALLYPORT_MANY", "10000"))
    backend = start.backend()

    def behaviour(connection, request):
        connection.begin_stream()
        for _ in range(3):
            connection.chunk(events(chunk("word"), done=False))
        connection.chunk(events({"choices": [], "usage": usage(0, 0)}))
        connection.end_stream()
    backend.on("/v1/chat/completions", behaviour)

    def change(config):
        configure(config)
        config["workers"] = 2
        config["redis"] = {"url": redis_server.url, "deadline": "500ms"}
        config["limits"]["budget"] = {"by": ["subject"], "tokens": "100/h", "token_burst": 10**9, "concurrency": 1000}
    gateway = start.gateway(backend, change=change)
    backend.on("/v1/probe", lambda connection, _: connection.answer(200, {"usage": usage(0, 0)}))

    def run(seed, count):
        dice = random.Random(seed)
        client = gateway.client()
        for i in range(count):
            client.send_request("POST", "/v1/chat/completions", body=chat(stream=True), key=key)
            if dice.randrange(3) == 0:
                if dice.randrange(2):
                    client.read_head()
                client.reset()
                client = gateway.client()
            else:
                assert client.read_response("POST").status == 200
        client.close()
    threads = [threading.Thread(target=run, args=(seed, requests // 8)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who left paid an estimate, of a prompt and at most what was said; no more than that is gone, and no reservation of 500 stays.
    wait_until(lambda: gateway.metric("sallyport_exchanges") == 0, 10, "nothing in flight")

    def spent():
        return sum(line["tokens_in"] + line["tokens_out"] for line in gateway.log_lines() if line.get("tokens_in") is not None)

    def rest():
        with gateway.client() as client:
            return 10**9 - (int(post(client, "/v1/probe", {"model": "m", "max_tokens": 1}, key).header("x-ratelimit-remaining-tokens")) + 1)
    wait_until(lambda: abs(rest() - spent()) <= 5, 10, lambda: f"{spent()} are gone by the log, {rest()} from the bucket")


# ---- Through the SDK ----

def test_the_openai_sdk_reads_the_token_headers_and_its_streams_settle_to_the_servers_usage(place, key):
    gateway, backend = place

    def behaviour(connection, request):
        wanted = json.loads(request.body)
        if not wanted.get("stream"):
            return connection.answer(200, {"id": "c", "object": "chat.completion", "choices": [], "usage": usage(11, 22)})
        connection.begin_stream()
        connection.chunk(events(chunk("Hello"), chunk(" there"), done=False))
        if wanted.get("stream_options", {}).get("include_usage"):
            connection.chunk(events({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage(100, 20)}, done=False))
        connection.chunk("data: [DONE]\n\n")
        return connection.end_stream()
    backend.on("/v1/chat/completions", behaviour)
    told = node(gateway, "tokens.mjs", key)
    assert told["headers"]["limit-tokens"] == str(BURST) and BURST - 200 < int(told["headers"]["remaining-tokens"]) < BURST - 100
    assert told["headers"]["reset-tokens"].endswith("s") and told["headers"]["limit-requests"] is None
    assert told["usage"] == usage(11, 22)
    assert told["plain"] == [{"choices": 1, "usage": None}] * 2
    assert told["asked"] == [{"choices": 1, "usage": None}] * 2 + [{"choices": 0, "usage": usage(100, 20)}]
    assert told["list"] == ["m", "short"]
    assert told["unknown"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
    settles_to(gateway, key, 33 + 120 + 120)
