"""Metrics, health and status for operators."""
import re

import backend as behave
from harness import CHAT, wait_until
from test_limits import limited


def configure(config):
    config["limits"] = {"per-caller": limited("1000/s", 1000)}
    config["routes"][0]["limits"] = ["per-caller"]


def test_healthz_and_readyz_answer(gateway, backend):
    assert gateway.admin("/healthz")[0] == 200 and gateway.admin("/readyz")[0] == 200


def test_an_unknown_admin_path_is_404_and_nothing_can_be_changed_from_there(gateway, backend):
    assert gateway.admin("/nothing")[0] == 404
    for path in ("/api/v1/reload", "/api/v1/drain", "/metrics"):
        assert gateway.admin(path, "POST")[0] in (403, 404, 405)
    assert gateway.is_ready()


def test_requests_are_counted_by_route_pool_and_code(gateway, client, backend, key):
    def count(code):
        return gateway.metric("sallyport_requests_total", route="api", pool="main", code=code)
    before = count("200")
    for _ in range(7):
        client.request("POST", "/v1/chat/completions", key=key, body=CHAT)
    wait_until(lambda: count("200") == before + 7)
    refused = gateway.metric("sallyport_requests_total", route="api", code="401")
    client.request("GET", "/v1/models")
    wait_until(lambda: gateway.metric("sallyport_requests_total", route="api", code="401") == refused + 1)


def test_no_label_takes_a_value_of_the_clients(gateway, client, backend, key):
    client.request("GET", "/v1/invented-by-the-client", key=key, host="invented.example", headers={"X-Request-ID": "invented-id"})
    client.request("BREW", "/invented-path")
    assert "invented" not in gateway.admin("/metrics")[1] and "BREW" not in gateway.admin("/metrics")[1]


def test_the_exposition_is_well_formed(gateway, client, backend, key):
    client.request("GET", "/v1/models", key=key)
    text = gateway.admin("/metrics")[1]
    assert text.endswith("\n")
    typed = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed, f"{name} is declared twice"
            typed.add(name)
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-zA-Z_:][\w:]*)(\{(?:\w+="(?:[^"\\\n]|\\.)*",?)*\})? ([0-9.eE+-]+|\+Inf|NaN)', line)
            assert match, line
            assert {match[1], re.sub(r"_(bucket|sum|count)$", "", match[1])} & typed, f"{match[1]} has no TYPE"
    for name in ("sallyport_requests_total", "sallyport_request_seconds", "sallyport_limit_decisions_total", "sallyport_backend_up"):
        assert name in typed


def test_a_histogram_is_cumulative(gateway, client, backend, key):
    client.request("GET", "/v1/models", key=key)
    buckets = [(float(bound), float(value)) for bound, value in
               re.findall(r'sallyport_request_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', gateway.admin("/metrics")[1])]
    assert buckets and buckets[-1][0] == float("inf")
    assert [value for _, value in sorted(buckets)] == sorted(value for _, value in buckets)


def test_a_backend_that_fails_its_probes_is_told_and_gets_no_traffic(start, key):
    good, bad = start.backend(), start.backend()
    bad.on("/health", behave.fixed(500))

    def change(config):
        config["pools"]["main"]["health"] = {"path": "/health", "interval": "100ms", "timeout": "500ms", "healthy_after": 1, "unhealthy_after": 2}
    gateway = start.gateway(good, bad, change=change)
    wait_until(lambda: gateway.metric("sallyport_backend_up", pool="main") == 1, 10, "one of two is up")
    bad.requests.clear()
    with gateway.client() as client:
        for _ in range(20):
            assert client.request("GET", "/v1/models", key=key).status == 200
    assert not [request for request in bad.requests if request.path != "/health"]
    bad.on("/health", behave.fixed(200))
    wait_until(lambda: gateway.metric("sallyport_backend_up", pool="main") == 2, 10, "it is back")


def test_without_a_healthy_backend_the_answer_is_503_with_retry_after(start, key):
    bad = start.backend()
    bad.on("/health", behave.fixed(500))

    def change(config):
        config["pools"]["main"]["health"] = {"path": "/health", "interval": "100ms", "timeout": "500ms", "healthy_after": 1, "unhealthy_after": 1}
    gateway = start.gateway(bad, change=change)
    wait_until(lambda: gateway.metric("sallyport_backend_up", pool="main") == 0, 10, "it is down")
    response = gateway.ask(key=key)
    assert response.status == 503 and int(response.header("retry-after")) >= 1
