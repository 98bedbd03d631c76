"""Real clients and a real second backend: curl, httpx, openssl, npm's openai, nginx."""
import json
import os
import signal
import subprocess

import backend as behave
import httpx
import pytest
from harness import CHAT, ROOT, free_port, put_down, wait_until
from test_limits import limited

CLIENTS = os.path.join(ROOT, "tests", "clients")


def curl(gateway, key, *arguments):
    return subprocess.run(["curl", "--silent", "--show-error", "--include", "--cacert", gateway.cafile, "--max-time", "20",
                           "-H", f"Authorization: Bearer {key}", *arguments], capture_output=True, text=True, timeout=40)


def address(gateway, path):
    return f"https://localhost:{gateway.port}{path}"


# ---- curl ----

def test_curl_gets_a_chat_completion(gateway, backend, key):
    shown = curl(gateway, key, address(gateway, "/v1/chat/completions"), "--json", json.dumps(CHAT))
    assert shown.returncode == 0 and shown.stdout.startswith("HTTP/1.1 200") and "Hello from the backend" in shown.stdout


def test_curl_gets_a_stream(gateway, backend, key):
    shown = curl(gateway, key, "--no-buffer", address(gateway, "/v1/chat/completions"), "--json", json.dumps({**CHAT, "stream": True}))
    assert shown.returncode == 0 and shown.stdout.rstrip().endswith("data: [DONE]")


def test_curl_uploads_a_large_body_with_expect(gateway, backend, key, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(os.urandom(3 << 20))
    shown = curl(gateway, key, "-H", "Expect: 100-continue", "--data-binary", f"@{path}", address(gateway, "/v1/echo"))
    assert "HTTP/1.1 100" in shown.stdout and f'"length": {3 << 20}' in shown.stdout


def test_curl_sees_a_broken_stream_as_broken(gateway, backend, key):
    for framing in ("chunked", "length"):
        backend.on("/v1/broken", behave.breaks_off(framing))
        shown = curl(gateway, key, address(gateway, "/v1/broken"))
        assert shown.returncode in (18, 56), shown  # partial file; failure in receiving


def test_curl_does_not_get_in_with_tls_1_2(gateway, backend, key):
    assert curl(gateway, key, "--tls-max", "1.2", address(gateway, "/v1/models")).returncode == 35


# ---- httpx ----

def test_httpx_keeps_its_connection_and_streams(gateway, backend, key):
    with httpx.Client(verify=gateway.cafile, headers={"Authorization": f"Bearer {key}"}, base_url=address(gateway, "")) as client:
        for _ in range(10):
            assert client.post("/v1/chat/completions", json=CHAT).json()["usage"]["total_tokens"] == 10
        with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            events = [line for line in response.iter_lines() if line.startswith("data: ")]
        assert len(events) >= 5


def test_httpx_sees_a_broken_stream_as_broken(gateway, backend, key):
    backend.on("/v1/broken", behave.breaks_off("chunked"))
    with pytest.raises(httpx.HTTPError):
        httpx.get(address(gateway, "/v1/broken"), verify=gateway.cafile, headers={"Authorization": f"Bearer {key}"})


# ---- npm openai ----

def node(gateway, script, key, **more):
    if not os.path.isdir(os.path.join(CLIENTS, "node_modules", "openai")):
        pytest.fail("tests/clients: run `npm ci` there first")
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": gateway.cafile, "BASE_URL": address(gateway, "/v1"), "API_KEY": key, **more}
    shown = subprocess.run(["node", script], cwd=CLIENTS, env=environment, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_openai_chats_lists_models_and_streams(gateway, backend, key):
    told = node(gateway, "chat.mjs", key)
    assert told["answer"] == "Hello from the backend" and told["usage"]["total_tokens"] == 10
    assert told["models"] == ["demo"]
    assert "".join(told["streamed"]) == "Hello from the backend"
    assert told["requestId"]


def test_openai_raises_its_authentication_error(gateway, backend, key):
    told = node(gateway, "authentication_error.mjs", "sp_not-a-key")
    assert told["name"] == "AuthenticationError" and told["status"] == 401 and told["message"]


def test_openai_raises_its_rate_limit_error_and_its_retry_succeeds(start, key):
    def change(config):
        config["limits"] = {"per-caller": limited("1/s", 1)}
        config["routes"][0]["limits"] = ["per-caller"]
    backend = start.backend()
    gateway = start.gateway(backend, change=change)
    told = node(gateway, "rate_limit.mjs", key)
    assert told["error"] == {"name": "RateLimitError", "status": 429, "code": "rate_limit_exceeded"}
    assert told["retried"] == "Hello from the backend"
    assert len(backend.requests) == 2
    statuses = wait_until(lambda: (lambda found: found.count(200) == 2 and found)([line["status"] for line in gateway.log_lines()]), 5, "the log is written")
    assert statuses.count(429) >= 2 and statuses[-1] == 200, "it was refused, waited as told, and got in"


# ---- nginx as a backend ----

@pytest.fixture
def nginx(tmp_path):
    port = free_port()
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "large").write_bytes(bytes(range(256)) * 20000)
    tmp_path.chmod(0o755)
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; master_process off; worker_processes 1; pid {tmp_path}/pid; error_log stderr;
        events {{ worker_connections 512; }}
        http {{ access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path}; fastcgi_temp_path {tmp_path};
               uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path}; keepalive_requests 5;
               server {{ listen 127.0.0.1:{port}; root {tmp_path}/www; client_max_body_size 10m;
                        location = /v1/json {{ default_type application/json; return 200 '{{"from":"nginx"}}'; }}
                        location /v1/files/ {{ alias {tmp_path}/www/; }} }} }}""")
    process = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)], stderr=subprocess.DEVNULL)

    def answers():
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v1/json").status_code == 200
        except httpx.HTTPError:
            return False
    wait_until(answers, 10, "nginx answers")
    yield f"http://127.0.0.1:{port}"
    put_down(process, signal.SIGTERM)


def test_nginx_as_a_backend(start, nginx, key):
    gateway = start.gateway(change=lambda config: config["pools"]["main"].update(servers=[{"url": nginx}]))
    with gateway.client() as client:
        for _ in range(40):  # nginx closes its kept connection after every fifth request
            assert client.request("POST", "/v1/json", key=key, body=b"x" * 500).json() == {"from": "nginx"}
        assert client.request("GET", "/v1/files/large", key=key).body == bytes(range(256)) * 20000
        part = client.request("GET", "/v1/files/large", key=key, headers={"Range": "bytes=256-511"})
        assert part.status in (200, 206)
        assert client.request("HEAD", "/v1/files/large", key=key).header("content-length") == "5120000"
        assert client.request("GET", "/v1/files/missing", key=key).status == 404
