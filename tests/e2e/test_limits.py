"""Limits kept in shared memory: LIMITS.md, one gateway."""
import math
import threading
import time

import pytest
from harness import join, wait_until


def limited(requests, burst, by=("subject",), **more):
    return {"by": list(by), "requests": requests, "request_burst": burst, "mode": "strict", **more}


def one_limit(**limit):
    def change(config):
        config["limits"] = {"per-caller": limit}
        config["routes"][0]["limits"] = ["per-caller"]
        if set(limit["by"]) <= {"address", "route", "global"}:  # the others say nothing where nobody has to log in
            config["routes"][1]["limits"] = ["per-caller"]
    return change


def statuses(gateway, count, **more):
    with gateway.client() as client:
        return [client.request("GET", "/v1/models", **more).status for _ in range(count)]


def test_a_burst_is_admitted_and_no_more(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 5)))
    assert statuses(gateway, 8, key=key) == [200] * 5 + [429] * 3


def test_a_refused_request_never_reaches_the_backend(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=one_limit(**limited("1/h", 2)))
    statuses(gateway, 10, key=key)
    assert len(backend.requests) == 2


def test_a_429_says_how_long_and_which_limit(start, key):
    gateway = start.gateway(change=one_limit(**limited("60/min", 3)))
    with gateway.client() as client:
        for remaining in (2, 1, 0):
            admitted = client.request("GET", "/v1/models", key=key)
            assert admitted.status == 200
            assert admitted.header("x-ratelimit-limit-requests") == "3"
            assert admitted.header("x-ratelimit-remaining-requests") == str(remaining)
            assert admitted.header("x-ratelimit-reset-requests")
        refused = client.request("GET", "/v1/models", key=key)
    assert refused.status == 429
    milliseconds = int(refused.header("retry-after-ms"))
    assert 0 < milliseconds <= 1000
    assert int(refused.header("retry-after")) == math.ceil(milliseconds / 1000)
    assert refused.header("x-ratelimit-remaining-requests") == "0"
    error = refused.json()["error"]
    assert "per-caller" in error["message"] and error["code"] == "rate_limit_exceeded"
    assert refused.header("ratelimit-policy") and refused.header("ratelimit")


def test_a_429_under_v1_messages_has_anthropics_shape(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 1)))
    with gateway.client() as client:
        client.request("POST", "/v1/messages", key=key, body={})
        refused = client.request("POST", "/v1/messages", key=key, body={})
    assert refused.status == 429 and refused.json()["type"] == "error" and refused.json()["error"]["type"] == "rate_limit_error"


def test_a_lone_client_that_obeys_retry_after_succeeds_at_its_next_try(start, key):
    gateway = start.gateway(change=one_limit(**limited("5/s", 1)))
    with gateway.client() as client:
        for _ in range(4):
            response = client.request("GET", "/v1/models", key=key)
            if response.status == 429:
                time.sleep(int(response.header("retry-after-ms")) / 1000)
                response = client.request("GET", "/v1/models", key=key)
            assert response.status == 200


def test_callers_do_not_share_a_bucket_unless_the_limit_says_so(start, keys):
    gateway = start.gateway(change=one_limit(**limited("1/h", 2)))
    assert statuses(gateway, 3, key=keys["user"]) == [200, 200, 429]
    assert statuses(gateway, 3, key=keys["second"]) == [200, 200, 429]
    shared = start.gateway(change=one_limit(**limited("1/h", 2, by=["global"])))
    assert statuses(shared, 2, key=keys["user"]) == [200, 200]
    assert statuses(shared, 1, key=keys["second"]) == [429]


@pytest.mark.parametrize("by", ["subject", "tenant", "key", "address", "route", "global"])
def test_every_dimension_limits(start, keys, by):
    gateway = start.gateway(change=one_limit(**limited("1/h", 2, by=[by])))
    assert statuses(gateway, 3, key=keys["tenant"]) == [200, 200, 429]


def test_a_limit_by_route_keeps_routes_apart(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 1, by=["route"])))
    with gateway.client() as client:
        assert [client.request("GET", path, key=key).status for path in ("/v1/a", "/v1/b", "/open/a", "/open/b")] == [200, 429, 200, 429]


def test_a_list_of_dimensions_makes_one_bucket_per_combination(start, keys):
    def change(config):
        one_limit(**limited("1/h", 1, by=["subject", "route"]))(config)
        config["routes"].insert(0, {**config["routes"][0], "name": "other", "path": "/v1/other/"})
    gateway = start.gateway(change=change)
    with gateway.client() as client:
        found = [client.request("GET", path, key=keys[who]).status
                 for path in ("/v1/a", "/v1/other/a") for who in ("user", "user", "second")]
    assert found == [200, 429, 200] * 2


def test_all_limits_apply_and_a_refusal_takes_from_none(start, keys):
    def change(config):
        config["limits"] = {"wide": limited("1/h", 5, by=["global"]), "narrow": limited("1/h", 2)}
        config["routes"][0]["limits"] = ["wide", "narrow"]
    gateway = start.gateway(change=change)
    assert statuses(gateway, 6, key=keys["user"]) == [200, 200] + [429] * 4
    assert statuses(gateway, 3, key=keys["second"]) == [200, 200, 429], "the four refused ones took nothing from the wide limit"
    assert statuses(gateway, 2, key=keys["tenant"]) == [200, 429]


def test_limits_of_a_role_follow_its_callers(start, keys):
    def change(config):
        config["limits"] = {"batch": limited("1/h", 1)}
        config["roles"]["batch"]["limits"] = ["batch"]
    gateway = start.gateway(change=change)
    assert statuses(gateway, 2, key=keys["batch"]) == [200, 429]
    assert statuses(gateway, 4, key=keys["user"]) == [200] * 4


def test_a_shadow_limit_refuses_nothing_and_says_what_it_would_have(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 1, shadow=True)))
    with gateway.client() as client:
        found = [client.request("GET", "/v1/models", key=key) for _ in range(4)]
    assert [response.status for response in found] == [200] * 4
    wait_until(lambda: decisions(gateway)["shadow_refused"] == 3, 5, "it is counted")
    assert wait_until(lambda: gateway.logged(found[-1].header("x-request-id"))["shadow_limit"] == "per-caller")


def decisions(gateway, limit="per-caller"):
    return {name: gateway.metric("sallyport_limit_decisions_total", limit=limit, decision=name) for name in ("admitted", "refused", "shadow_refused")}


def test_decisions_are_counted_by_limit(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 3)))
    statuses(gateway, 5, key=key)
    wait_until(lambda: decisions(gateway) == {"admitted": 3, "refused": 2, "shadow_refused": 0}, 5, "they are counted")


def test_all_workers_share_one_bucket(start, key):
    def change(config):
        one_limit(**limited("1/h", 40))(config)
        config["workers"] = 2
    gateway = start.gateway(change=change)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(statuses(gateway, 5, key=key))) for _ in range(20)]
    for thread in threads:
        thread.start()
    join(threads)
    assert len(found) == 100 and found.count(200) == 40 and found.count(429) == 60


def test_admissions_never_exceed_burst_plus_rate_times_time(start, key):
    gateway = start.gateway(change=one_limit(**limited("50/s", 10)))
    began, admitted = time.monotonic(), 0
    with gateway.client() as client:
        while time.monotonic() - began < 1.5:
            admitted += client.request("GET", "/v1/models", key=key).status == 200
        elapsed = time.monotonic() - began
    assert admitted <= 10 + 50 * elapsed
    assert admitted >= 10 + 50 * elapsed * 0.5, "and what is allowed is used"
