"""Limits shared through a real redis-server, while it lives, dies, hangs and comes back."""
import os
import signal
import threading
import time

import pytest
from harness import CHAT, ROOT, join, wait_until
from test_limits import limited


def shared_limit(server, gateways=1, deadline="5ms", **limit):
    """Tests of exactness give a deadline that a busy machine keeps: a reply that comes too late is an outage, which has tests of its own."""
    def change(config):
        config["redis"] = {"url": server.url, "gateways": gateways, "deadline": deadline}
        config["limits"] = {"per-caller": limit}
        config["routes"][0]["limits"] = ["per-caller"]
    return change


def ask(gateway, key, count):
    with gateway.client() as client:
        return [client.request("GET", "/v1/models", key=key) for _ in range(count)]


def redis_up(gateway):
    return wait_until(lambda: gateway.metric("sallyport_redis_up") >= 1, 10, "sallyport_redis_up is 1")


def codes(responses):
    return [response.status for response in responses]


def test_two_gateways_on_one_redis_admit_what_one_would(start, redis_server, key):
    backend = start.backend()
    gateways = [start.gateway(backend, change=shared_limit(redis_server, 2, deadline="1s", **limited("1/h", 60))) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    found = []
    threads = [threading.Thread(target=lambda gateway=gateway: found.extend(codes(ask(gateway, key, 10))))
               for gateway in gateways for _ in range(6)]
    for thread in threads:
        thread.start()
    join(threads)
    assert len(found) == 120 and found.count(200) == 60 and found.count(429) == 60
    assert len(backend.requests) == 60


def test_each_decision_is_one_command(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, deadline="1s", **limited("1000/s", 1000)))
    redis_up(gateway)
    ask(gateway, key, 1)

    def calls():
        return redis_server.api.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    before = calls()
    assert codes(ask(gateway, key, 50)) == [200] * 50
    assert calls() - before == 50


def test_levels_outlive_the_gateway(start, redis_server, key):
    change = shared_limit(redis_server, deadline="1s", **limited("1/h", 3))
    first = start.gateway(change=change)
    redis_up(first)
    assert codes(ask(first, key, 2)) == [200, 200]
    second = start.gateway(change=change)
    redis_up(second)
    assert codes(ask(second, key, 2)) == [200, 429]


def test_a_script_cache_that_was_emptied_is_no_error(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, deadline="1s", **limited("1/h", 10)))
    redis_up(gateway)
    assert codes(ask(gateway, key, 2)) == [200, 200]
    redis_server.api.script_flush()
    after = ask(gateway, key, 3)
    assert codes(after) == [200] * 3
    assert [response.header("x-sallyport-degraded") for response in after] == [None] * 3
    assert after[-1].header("x-ratelimit-remaining-requests") == "5"


def take_away(server, how):
    server.kill() if how == "killed" else server.signal(signal.SIGSTOP)


def give_back(server, how):
    server.start() if how == "killed" else server.signal(signal.SIGCONT)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_redis_away_means_no_5xx_and_it_heals_by_itself(start, redis_server, key, how):
    gateway = start.gateway(change=shared_limit(redis_server, **limited("1000/s", 1000, on_outage="open")))
    redis_up(gateway)
    assert ask(gateway, key, 1)[0].header("x-sallyport-degraded") is None
    take_away(redis_server, how)
    during = ask(gateway, key, 30)
    assert codes(during) == [200] * 30
    assert [response.header("x-sallyport-degraded") for response in during] == ["limits"] * 30
    wait_until(lambda: gateway.metric("sallyport_redis_up") == 0, 10, "the metric tells")
    give_back(redis_server, how)

    def healed():
        return ask(gateway, key, 1)[0].header("x-sallyport-degraded") is None
    wait_until(healed, 15, "limits are shared again")
    redis_up(gateway)
    assert gateway.logged(during[0].header("x-request-id"))["degraded"]


@pytest.mark.measures
def test_a_redis_that_hangs_costs_a_deadline_and_then_nothing(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, **limited("1000/s", 1000, on_outage="open")))
    redis_up(gateway)
    redis_server.signal(signal.SIGSTOP)
    began = time.monotonic()
    ask(gateway, key, 100)
    elapsed = time.monotonic() - began
    redis_server.signal(signal.SIGCONT)
    assert elapsed < 100 * 0.05, "a request waits for neither the kernel's nor its client's patience"


def test_closed_on_outage_refuses_with_429_and_a_time_to_come_back(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, **limited("1000/s", 1000, on_outage="closed")))
    redis_up(gateway)
    redis_server.kill()
    for response in ask(gateway, key, 5):
        assert response.status == 429 and int(response.header("retry-after")) >= 1
        assert response.header("x-sallyport-degraded") == "limits"


def test_share_on_outage_admits_this_gateways_part(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, 2, **limited("2/h", 40, on_outage="share")))
    redis_up(gateway)
    redis_server.kill()
    found = codes(ask(gateway, key, 50))
    assert found.count(200) == 20 and set(found) == {200, 429}


def test_a_redis_that_is_away_at_the_start_does_not_keep_the_gateway_down(start, redis_server, key):
    redis_server.kill()
    gateway = start.gateway(change=shared_limit(redis_server, **limited("1000/s", 1000, on_outage="open")))
    assert codes(ask(gateway, key, 3)) == [200] * 3
    redis_server.start()
    redis_up(gateway)
    wait_until(lambda: ask(gateway, key, 1)[0].header("x-sallyport-degraded") is None, 15, "limits are shared")


def test_a_reload_does_not_refill_shared_buckets(start, redis_server, key):
    gateway = start.gateway(change=shared_limit(redis_server, deadline="1s", **limited("1/h", 10)))
    redis_up(gateway)
    ask(gateway, key, 8)
    gateway.config["limits"]["per-caller"]["request_burst"] = 20
    assert gateway.reload().returncode == 0
    assert codes(ask(gateway, key, 3)) == [200, 200, 429], "growth gives no gift"
    gateway.config["limits"]["per-caller"]["request_burst"] = 5
    assert gateway.reload().returncode == 0
    assert codes(ask(gateway, key, 1)) == [429]


def test_the_user_that_the_documentation_names_is_enough_and_no_command_of_it_is_for_nothing(start, redis_server, key):
    """doc/limits.md has a line to copy; with it every kind of limit works, and Redis denies nothing."""
    with open(os.path.join(ROOT, "doc", "limits.md")) as page:
        [line] = [line.strip() for line in page if line.strip().startswith("ACL SETUSER")]
    words = line.replace(">PASSWORD", ">secret").split()
    redis_server.api.execute_command(*words)
    redis_server.api.execute_command("ACL", "LOG", "RESET")
    backend = start.backend()

    def change(config):
        secret = start.directories[-1] / "redis.password"
        secret.write_text("secret")
        secret.chmod(0o600)
        config["redis"] = {"url": redis_server.url + "/1", "username": words[2], "password_file": "redis.password", "deadline": "500ms"}
        config["limits"] = {"all": {"by": ["subject"], "requests": "1000/s", "request_burst": 1000, "tokens": "1000/h", "token_burst": 100000, "concurrency": 5}}
        config["models"] = {"m": {"pool": "main"}}
        config["routes"][0].update({"models": "body", "limits": ["all"]})
    gateway = start.gateway(backend, change=change)
    wait_until(lambda: gateway.metric("sallyport_redis_up") == 1, 5, "Redis is up")
    with gateway.client() as client:
        for _ in range(50):
            response = client.request("POST", "/v1/chat/completions", body={**CHAT, "model": "m"}, key=key)
            assert response.status == 200 and not response.header("x-sallyport-degraded")
    assert redis_server.api.execute_command("ACL", "LOG") == []
    assert redis_server.api.execute_command("CLIENT", "LIST").decode().count(f"user={words[2]}") >= 1
