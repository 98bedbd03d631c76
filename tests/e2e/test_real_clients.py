"""The clients people already have: a chat, a stream, errors as their own exception classes, and a stream that is given up in the middle."""
import asyncio
import functools
import json
import os
import ssl
import subprocess

import aiohttp
import backend as behave
import httpx
import pytest
import requests
from harness import CHAT, ROOT, SLOWER, Lines, free_port
from test_limits import limited
from test_peers import CLIENTS, address

HELLO = "Hello from the backend"


def configure(config):
    config["limits"] = {"hardly": limited("1/h", 1)}
    config["pools"]["down"] = {"servers": [{"url": f"http://127.0.0.1:{free_port()}"}]}
    route = config["routes"][0]
    config["routes"] = [{**route, "name": "limited", "path": "/limited/", "strip_prefix": "/limited", "limits": ["hardly"]},
                        {**route, "name": "down", "path": "/down/", "pool": "down"}, route]


# ---- A model server that both kinds of SDK understand ----

def message_events(*words, finish=True):
    def event(kind, **more):
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"
    yield event("message_start", message={"id": "msg_1", "type": "message", "role": "assistant", "model": "demo", "content": [], "stop_reason": None,
                                          "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in words:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    if finish:
        yield event("content_block_stop", index=0)
        yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 3})
        yield event("message_stop")


class Model:
    """Answers to the model "demo", refuses the model "refused", and with the model "held" says one word and waits."""

    def __init__(self, backend):
        self.held = behave.Held()
        backend.on("/v1/chat/completions", self.completion).on("/v1/messages", self.message)

    def completion(self, connection, request):
        wanted = json.loads(request.body)
        if wanted["model"] == "refused":
            return connection.answer(400, {"error": {"message": "not that", "type": "invalid_request_error", "param": "model", "code": "no"}})
        if wanted["model"] == "held":
            self.held.put(behave.chat_chunk("Wait"))
            return self.held(connection, request)
        return behave.like_a_model_server(connection, request)

    def message(self, connection, request):
        wanted = json.loads(request.body)
        if wanted["model"] == "refused":
            return connection.answer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "not that"}})
        if wanted["model"] == "held":
            self.held.put("".join(message_events("Wait", finish=False)))
            return self.held(connection, request)
        if not wanted.get("stream"):
            return connection.answer(body={"id": "msg_1", "type": "message", "role": "assistant", "model": "demo", "stop_reason": "end_turn",
                                           "stop_sequence": None, "content": [{"type": "text", "text": HELLO}],
                                           "usage": {"input_tokens": 7, "output_tokens": 3}})
        connection.begin_stream()
        for event in message_events("Hello", " from", " the", " backend"):
            connection.chunk(event)
        return connection.end_stream()


@pytest.fixture
def model(backend):
    return Model(backend)


# ---- npm ----

def story(gateway, script, key):
    if not os.path.isdir(os.path.join(CLIENTS, "node_modules", "ai")):
        pytest.fail("tests/clients: run `npm ci` there first")
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": gateway.cafile, "ORIGIN": address(gateway, ""), "API_KEY": key,
                   "LANGSMITH_TRACING": "false", "AI_SDK_LOG_WARNINGS": "false"}
    shown = subprocess.run(["node", script], cwd=CLIENTS, env=environment, capture_output=True, text=True, timeout=60 * SLOWER)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


STATUSES = {"unauthorized": 401, "limited": 429, "invalid": 400, "unknown": 404, "down": 502}
NAMES = {"unauthorized": "AuthenticationError", "limited": "RateLimitError", "invalid": "BadRequestError", "unknown": "NotFoundError",
         "down": "InternalServerError"}


def check(told, model):
    assert told["answer"] == HELLO
    assert "".join(told["streamed"]) == HELLO and len(told["streamed"]) >= 4
    assert {what: error["status"] for what, error in told["errors"].items()} == STATUSES
    assert all(error["ours"] for error in told["errors"].values())
    assert told["beforeLeaving"] == "Wait"
    assert model.held.gone.wait(5), "the backend was not told that the client left"


@pytest.mark.parametrize("script", ["openai.mjs", "anthropic.mjs", "langchain.mjs"])
def test_an_sdk_chats_streams_raises_its_own_errors_and_leaves(gateway, model, key, script):
    told = story(gateway, script, key)
    check(told, model)
    assert {what: error["name"] for what, error in told["errors"].items()} == NAMES
    if script == "anthropic.mjs":
        assert told["errors"]["unauthorized"]["type"] == "authentication_error"


def test_the_ai_sdk_chats_streams_raises_its_own_errors_and_leaves(gateway, model, key):
    told = story(gateway, "ai_sdk.mjs", key)
    check(told, model)
    assert {what: error["retryable"] for what, error in told["errors"].items()} == {
        "unauthorized": False, "limited": True, "invalid": False, "unknown": False, "down": True}


def test_the_demonstration_server_speaks_both_ways_through_the_gateway(start, key):
    with subprocess.Popen(["/usr/bin/python3", os.path.join(ROOT, "tests", "demo", "model_server.py"), "--port", "0", "--delay-ms", "0"],
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            url = Lines(process.stdout).next().split(" on ")[1].strip()
            gateway = start.gateway(change=lambda config: config["pools"]["main"].update(servers=[{"url": url}]))
            for path in ("/v1/chat/completions", "/v1/messages"):
                with gateway.client() as client:
                    plain = client.request("POST", path, key=key, body={**CHAT, "max_tokens": 9})
                    assert plain.status == 200 and "no model ran" in plain.body.decode()
                    streamed = client.request("POST", path, key=key, body={**CHAT, "max_tokens": 9, "stream": True})
                    assert streamed.header("content-type") == "text/event-stream"
                    assert b" model" in streamed.body and (b"[DONE]" in streamed.body or b"event: message_stop" in streamed.body)
                    assert client.request("POST", path, key=key, body={"model": "demo"}).status == 400
        finally:
            process.terminate()


# ---- Python ----

CASES = {"unauthorized": ("/v1/chat/completions", "sp_not-a-key", CHAT), "limited": ("/limited/v1/chat/completions", None, CHAT),
         "invalid": ("/v1/chat/completions", None, {**CHAT, "model": "refused"}), "unknown": ("/nowhere/v1/chat/completions", None, CHAT),
         "down": ("/down/v1/chat/completions", None, CHAT)}
HELD = {**CHAT, "model": "held", "stream": True}


def words(lines):
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def test_requests_chats_streams_raises_and_leaves(gateway, model, key):
    url = address(gateway, "/v1/chat/completions")
    with requests.Session() as session:
        session.request = functools.partial(session.request, timeout=60)  # it has none of its own
        session.trust_env = False  # which would look for certificates elsewhere
        session.verify, session.headers["Authorization"] = gateway.cafile, f"Bearer {key}"
        assert session.post(url, json=CHAT).json()["choices"][0]["message"]["content"] == HELLO
        with session.post(url, json={**CHAT, "stream": True}, stream=True) as response:
            assert words(response.iter_lines(decode_unicode=True)) == HELLO
        session.post(address(gateway, "/limited/v1/chat/completions"), json=CHAT)
        for what, (path, other_key, asked) in CASES.items():
            with pytest.raises(requests.HTTPError) as raised:
                session.post(address(gateway, path), json=asked, headers={"Authorization": f"Bearer {other_key or key}"}).raise_for_status()
            assert raised.value.response.status_code == STATUSES[what]
        response = session.post(url, json=HELD, stream=True)
        assert words([next(response.iter_lines(decode_unicode=True))]) == "Wait"
        response.close()
        assert model.held.gone.wait(5)


def test_httpx_raises_and_leaves(gateway, model, key):
    with httpx.Client(verify=gateway.cafile, headers={"Authorization": f"Bearer {key}"}, base_url=address(gateway, "")) as client:
        client.post("/limited/v1/chat/completions", json=CHAT)
        for what, (path, other_key, asked) in CASES.items():
            with pytest.raises(httpx.HTTPStatusError) as raised:
                client.post(path, json=asked, headers={"Authorization": f"Bearer {other_key or key}"}).raise_for_status()
            assert raised.value.response.status_code == STATUSES[what]
        with client.stream("POST", "/v1/chat/completions", json=HELD) as response:
            assert words([next(response.iter_lines())]) == "Wait"
        assert model.held.gone.wait(5)


def test_aiohttp_chats_streams_raises_and_leaves(gateway, model, key):
    trusting = ssl.create_default_context(cafile=gateway.cafile)

    async def ask_all():
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(address(gateway, ""), headers=headers, connector=aiohttp.TCPConnector(ssl=trusting)) as session:
            async with session.post("/v1/chat/completions", json=CHAT) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == HELLO
            async with session.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
                assert words([line.decode().rstrip() async for line in response.content]) == HELLO
            async with session.post("/limited/v1/chat/completions", json=CHAT):
                pass
            for what, (path, other_key, asked) in CASES.items():
                with pytest.raises(aiohttp.ClientResponseError) as raised:
                    async with session.post(path, json=asked, headers={"Authorization": f"Bearer {other_key or key}"}, raise_for_status=True):
                        pass
                assert raised.value.status == STATUSES[what]
            async with session.post("/v1/chat/completions", json=HELD) as response:
                assert words([(await response.content.readline()).decode().rstrip()]) == "Wait"
                response.close()
                assert await asyncio.to_thread(model.held.gone.wait, 5)
    asyncio.run(ask_all())


# ---- curl ----

def test_curl_fails_as_it_should_and_leaves(gateway, model, key):
    def curl(path, asked, bearer):
        return ["curl", "--silent", "--show-error", "--no-buffer", "--fail", "--cacert", gateway.cafile, "--max-time", "30",
                "-H", f"Authorization: Bearer {bearer}", "--json", json.dumps(asked), address(gateway, path)]
    subprocess.run(curl("/limited/v1/chat/completions", CHAT, key), capture_output=True, timeout=60)
    for what, (path, other_key, asked) in CASES.items():
        shown = subprocess.run(curl(path, asked, other_key or key), capture_output=True, text=True, timeout=60)
        assert shown.returncode == 22 and f" {STATUSES[what]}" in shown.stderr, shown
    with subprocess.Popen(curl("/v1/chat/completions", HELD, key), stdout=subprocess.PIPE, text=True) as process:
        assert words([Lines(process.stdout).next()]) == "Wait"
        process.terminate()
    assert model.held.gone.wait(5)
