#!/usr/bin/python3
"""A demonstration model server: speaks like an OpenAI-style one, runs no model, and says so in every answer.

    model_server.py [--host 127.0.0.1] [--port 8000] [--delay-ms 40]

GET /health, GET /v1/models, POST /v1/chat/completions and POST /v1/messages (plain, or streamed as
server-sent events; with usage).
"""
import argparse
import asyncio
import json
import signal
import time

MODEL = "demo"
MAX_HEAD, MAX_BODY = 32 * 1024, 8 * 1024 * 1024
TEXT = ("This is a demonstration: no model ran. The server behind the gateway got {messages} message(s), "
        "{characters} characters in all, and answers with this sentence whatever they say.")


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


async def read_request(reader):
    """(method, path, body, keep alive); None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise Refused(431, "the head is too large") from None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:] if line)}
        length = int(headers.get("content-length", "0"))
    except ValueError:
        raise Refused(400, "that is no HTTP request") from None
    if length > MAX_BODY:
        raise Refused(413, "the body is too large")
    body = await read_chunks(reader) if "transfer-encoding" in headers else await reader.readexactly(length)
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return method, target.split("?", 1)[0], body, keep


async def read_chunks(reader):
    body = b""
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        except ValueError:
            raise Refused(400, "that is no chunk") from None
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        if len(body) + size > MAX_BODY:
            raise Refused(413, "the body is too large")
        body += await reader.readexactly(size)
        await reader.readexactly(2)


class Answer:
    def __init__(self, writer):
        self.writer = writer

    async def json(self, status, value):
        body = json.dumps(value).encode()
        self.writer.write(f"HTTP/1.1 {status} Demonstration\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await self.writer.drain()

    async def error(self, status, message):
        await self.json(status, {"error": {"message": f"demonstration server: {message}", "type": "invalid_request_error", "param": None, "code": None}})

    async def begin(self):
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")
        await self.writer.drain()

    async def event(self, value, name=None):
        data = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
        if name:
            data = f"event: {name}\n".encode() + data
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def end(self):
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


def tokens(text):
    return max(1, len(text) // 4)


class Server:
    def __init__(self, delay):
        self.delay = delay
        self.answered = 0

    async def connection(self, reader, writer):
        try:
            while await self.exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader, writer):
        answer = Answer(writer)
        try:
            request = await read_request(reader)
            if not request:
                return False
            method, path, body, keep = request
            if path == "/health" and method == "GET":
                await answer.json(200, {"status": "ok", "demonstration": True})
            elif path == "/v1/models" and method == "GET":
                await answer.json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "demonstration"}]})
            elif path == "/v1/chat/completions" and method == "POST":
                await self.chat(answer, body)
            elif path == "/v1/messages" and method == "POST":
                await self.message(answer, body)
            else:
                await answer.error(404, f"nothing at {method} {path}")
            return keep
        except Refused as refused:
            await answer.error(refused.status, str(refused))
            return False

    def read(self, body):
        """(what is wanted, how much it says, what to say)."""
        try:
            wanted = json.loads(body)
            messages = wanted["messages"]
            prompt = "".join(message["content"] if isinstance(message["content"], str) else json.dumps(message["content"]) for message in messages)
        except (ValueError, KeyError, TypeError):
            raise Refused(400, "the body must be a JSON object with messages") from None
        self.answered += 1
        return wanted, prompt, TEXT.format(messages=len(messages), characters=len(prompt))

    async def chat(self, answer, body):
        wanted, prompt, text = self.read(body)
        usage = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(text)}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        common = {"id": f"chatcmpl-demo-{self.answered}", "created": int(time.time()), "model": wanted.get("model", MODEL)}
        if not wanted.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return await answer.json(200, {**common, "object": "chat.completion", "choices": [choice], "usage": usage})
        common["object"] = "chat.completion.chunk"
        await answer.begin()
        for number, word in enumerate(text.split(" ")):
            delta = {"content": word if number == 0 else " " + word, **({"role": "assistant"} if number == 0 else {})}
            await answer.event({**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            await asyncio.sleep(self.delay)
        await answer.event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        options = wanted.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            await answer.event({**common, "choices": [], "usage": usage})
        await answer.event("[DONE]")
        await answer.end()

    async def message(self, answer, body):
        wanted, prompt, text = self.read(body)
        usage = {"input_tokens": tokens(prompt), "output_tokens": tokens(text)}
        said = {"id": f"msg_demo_{self.answered}", "type": "message", "role": "assistant", "model": wanted.get("model", MODEL), "stop_sequence": None}
        if not wanted.get("stream"):
            return await answer.json(200, {**said, "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage})

        async def event(kind, **more):
            await answer.event({"type": kind, **more}, kind)
        await answer.begin()
        await event("message_start", message={**said, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}})
        await event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for number, word in enumerate(text.split(" ")):
            await event("content_block_delta", index=0, delta={"type": "text_delta", "text": word if number == 0 else " " + word})
            await asyncio.sleep(self.delay)
        await event("content_block_stop", index=0)
        await event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": usage["output_tokens"]})
        await event("message_stop")
        await answer.end()


async def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--delay-ms", type=float, default=40, help="between the events of a stream")
    options = options.parse_args()
    listening = await asyncio.start_server(Server(options.delay_ms / 1000).connection, options.host, options.port, limit=MAX_HEAD)
    print(f"demonstration model server on http://{options.host}:{listening.sockets[0].getsockname()[1]}", flush=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main())
