"""What language-model tokens cost, told to operators: metrics by model, key and tenant, the access log, the status."""
import json

from harness import make_key, wait_until

CHAT = {"messages": [{"role": "user", "content": "Good morning"}]}
REPORTED = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}


def configure(config):
    config["models"] = {"reporting": {"pool": "main"}, "silent": {"pool": "main"}, "never-asked": {"pool": "main"}}
    config["routes"] = [{"name": "api", "path": "/v1/", "authenticate": ["jwt", "api_key"], "models": "body", "pool": "main"}]


def model_server(connection, request):
    """Says its usage, whole or streamed, unless the model is the silent one."""
    wanted = json.loads(request.body or b"{}")
    reports = wanted["model"] == "reporting"
    message = {"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}
    if not wanted.get("stream"):
        return connection.answer(body={"object": "chat.completion", "choices": [message], **({"usage": REPORTED} if reports else {})})
    connection.begin_stream()
    for word in ("Hello", " there", "!"):
        connection.chunk("data: " + json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": word}}]}) + "\n\n")
    if reports:
        connection.chunk("data: " + json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": REPORTED}) + "\n\n")
    connection.chunk("data: [DONE]\n\n")
    return connection.end_stream()


def ask(client, key, model="reporting", **more):
    response = client.request("POST", "/v1/chat/completions", key=key, body={**CHAT, "model": model, **more})
    assert response.status == 200, response
    return response.header("x-request-id")


def ready(backend):
    backend.on("/v1/chat/completions", model_server)


def grows(gateway, name, by, **labels):
    """A condition to wait for: the metric has grown by so much since now."""
    before = gateway.metric(name, **labels)
    return lambda: gateway.metric(name, **labels) == before + by


def test_what_a_backend_reports_is_counted_by_model_and_direction(gateway, client, backend, key):
    ready(backend)
    said = [grows(gateway, "sallyport_tokens_total", 140, model="reporting", direction="input"),
            grows(gateway, "sallyport_tokens_total", 60, model="reporting", direction="output"),
            grows(gateway, "sallyport_tokens_estimated_total", 0, model="reporting"),
            grows(gateway, "gen_ai_client_token_usage_count", 2, gen_ai_request_model="reporting", gen_ai_token_type="output"),
            grows(gateway, "gen_ai_client_token_usage_sum", 60, gen_ai_request_model="reporting", gen_ai_token_type="output"),
            grows(gateway, "gen_ai_client_token_usage_bucket", 2, gen_ai_request_model="reporting", gen_ai_token_type="output", le="64"),
            grows(gateway, "gen_ai_client_token_usage_bucket", 0, gen_ai_request_model="reporting", gen_ai_token_type="output", le="16")]
    ask(client, key)
    ask(client, key, stream=True)
    for condition in said:
        wait_until(condition, what="the tokens are counted")


def test_the_access_log_says_who_counted(gateway, client, backend, key):
    ready(backend)
    for more in ({}, {"stream": True}):
        line = gateway.logged(ask(client, key, **more))
        assert (line["tokens_in"], line["tokens_out"], line["usage"], line["model"]) == (70, 30, "reported", "reporting")
        line = gateway.logged(ask(client, key, model="silent", **more))
        assert line["usage"] == "estimated" and line["tokens_in"] > 0 and line["tokens_out"] > 0
    refused = client.request("POST", "/v1/chat/completions", body={**CHAT, "model": "silent"})
    assert gateway.logged(refused.header("x-request-id"))["usage"] is None


def test_nothing_is_free_because_a_field_is_missing_and_no_histogram_takes_an_estimate(gateway, client, backend, key):
    ready(backend)
    before = gateway.metric("sallyport_tokens_total", model="silent")
    estimated = gateway.metric("sallyport_tokens_estimated_total", model="silent")
    lines = [gateway.logged(ask(client, key, model="silent")), gateway.logged(ask(client, key, model="silent", stream=True))]
    tokens = sum(line["tokens_in"] + line["tokens_out"] for line in lines)
    wait_until(lambda: gateway.metric("sallyport_tokens_total", model="silent") == before + tokens)
    assert gateway.metric("sallyport_tokens_estimated_total", model="silent") == estimated + tokens
    assert 'gen_ai_client_token_usage_count{gen_ai_request_model="silent"' not in gateway.admin("/metrics")[1]


def test_a_stream_has_a_time_to_its_first_token_and_one_per_token(gateway, client, backend, key):
    ready(backend)
    names = ("gen_ai_server_time_to_first_token_seconds_count", "gen_ai_server_time_per_output_token_seconds_count")
    said = [grows(gateway, name, 1, gen_ai_request_model="reporting") for name in names]
    ask(client, key)
    ask(client, key, stream=True)
    for condition in said:
        wait_until(condition, what="the stream alone is measured")


def test_keys_and_tenants_are_counted_by_name(gateway, client, backend, keys):
    ready(backend)
    of_key = grows(gateway, "sallyport_key_tokens_total", 70, key=keys["tenant"][3:11], tenant="acme", direction="input")
    of_tenant = grows(gateway, "sallyport_tenant_tokens_total", 30, tenant="acme", direction="output")
    ask(client, keys["tenant"])
    wait_until(of_key)
    wait_until(of_tenant)


def test_callers_with_tokens_are_told_by_tenant_only_where_the_file_of_keys_names_it(gateway, client, backend, issuer):
    ready(backend)
    known = grows(gateway, "sallyport_tenant_tokens_total", 100, tenant="acme")
    other = grows(gateway, "sallyport_tenant_tokens_total", 300, tenant="other")
    of_keys = gateway.metric("sallyport_key_tokens_total")
    ask(client, issuer.token(sub="carol", roles=["user"], org_id="acme"))
    for i in range(3):
        ask(client, issuer.token(sub="carol", roles=["user"], org_id=f"invented-{i}"))
    wait_until(known)
    wait_until(other)
    text = gateway.admin("/metrics")[1]
    assert "invented" not in text and "carol" not in text
    assert gateway.metric("sallyport_key_tokens_total") == of_keys


def test_a_model_that_a_client_invents_makes_no_series(gateway, client, backend, key):
    ready(backend)
    response = client.request("POST", "/v1/chat/completions", key=key, body={**CHAT, "model": "invented-model"})
    assert response.status == 404
    gateway.logged(response.header("x-request-id"))
    text = gateway.admin("/metrics")[1]
    assert "invented-model" not in text
    assert 'sallyport_tokens_total{model="never-asked",direction="output"} 0' in text
    assert 'gen_ai_request_model="never-asked"' not in text


def test_the_status_says_tokens_by_model_and_queues(gateway, client, backend, key):
    ready(backend)
    ask(client, key)
    status = json.loads(gateway.ctl("status", "--json").stdout)
    models = {model["name"]: model for model in status["models"]}
    assert models["reporting"]["tokens_in"] >= 70 and models["reporting"]["pool"] == "main"
    assert models["never-asked"] == {"name": "never-asked", "pool": "main", "tokens_in": 0, "tokens_out": 0, "tokens_estimated": 0}
    assert status["queues"] == [{"pool": "main", "waiting": 0}]
    shown = gateway.ctl("status").stdout
    assert "never-asked" in shown and "TOKENS OUT" in shown


def test_counts_go_on_over_a_reload_and_a_new_key_is_told_by_its_name(start, keys):
    backend = start.backend()
    ready(backend)
    gateway = start.gateway(backend, change=configure)
    with gateway.client() as client:
        ask(client, keys["tenant"])
        new = make_key(gateway.directory + "/keys.yaml", "new", tenant="newcomers")
        gateway.config["models"]["another"] = {"pool": "main"}
        assert gateway.reload().returncode == 0
        ask(client, keys["tenant"])
        ask(client, new)
    wait_until(lambda: gateway.metric("sallyport_key_tokens_total", key=new[3:11], direction="input") == 70)
    assert gateway.metric("sallyport_tenant_tokens_total", tenant="newcomers") == 100
    assert gateway.metric("sallyport_key_tokens_total", key=keys["tenant"][3:11], direction="input") == 140
    assert gateway.metric("sallyport_tokens_total", model="reporting", direction="input") == 210
