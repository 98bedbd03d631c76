"""Limits that count refused logins: guessing is slowed down, and nobody else notices."""
import threading

import pytest
from harness import join, wait_until
from test_limits import limited

GUESS = "sp_00000000_not-a-key-at-all"
LOOPBACKS = ["127.0.0.1", "127.0.0.2"]


def login_limit(requests="1/h", burst=5, server=None, also=None, **more):
    def change(config):
        config["limits"] = {"failed-logins": limited(requests, burst, by=more.pop("by", ["address"]), count="unauthorized", **more), **(also or {})}
        if also:
            config["routes"][0]["limits"] = list(also)
        if server:
            config["redis"] = {"url": server.url, "gateways": 2, "deadline": "1s"}  # what comes later is decided here, and not what this is about
        config["listeners"][0]["address"] = "0.0.0.0:" + config["listeners"][0]["address"].rsplit(":", 1)[1]
        config["workers"] = 2
    return change


def redis_up(gateway):
    wait_until(lambda: gateway.metric("sallyport_redis_up") >= 1, 10, "Redis is seen")


def ask(gateway, key=None, source="127.0.0.1", path="/v1/models", count=1):
    found = []
    for _ in range(count):
        with gateway.client(source=source) as client:
            found.append(client.request("GET", path, key=key))
    return found


def codes(responses):
    return [response.status for response in responses]


@pytest.fixture(params=["shared memory", "redis"])
def limited_gateway(request, start, redis_server):
    def make(**more):
        server = redis_server if request.param == "redis" else None
        gateway = start.gateway(change=login_limit(server=server, **more))
        if server:
            redis_up(gateway)
        return gateway
    return make


def test_after_the_burst_guesses_get_429_and_a_time_to_come_back(limited_gateway):
    gateway = limited_gateway()
    found = ask(gateway, GUESS, count=7)
    assert codes(found) == [401] * 5 + [429] * 2
    assert int(found[-1].header("retry-after")) >= 1 and "failed-logins" in found[-1].json()["error"]["message"]
    assert all(answer.header("x-ratelimit-limit-requests") is None for answer in found[:5])
    assert gateway.logged(found[-1].header("x-request-id"))["limit"] == "failed-logins"


def test_where_the_bucket_is_empty_a_right_key_is_refused_like_a_wrong_one(limited_gateway, key):
    gateway = limited_gateway()
    ask(gateway, GUESS, count=5)
    right, wrong = ask(gateway, key)[0], ask(gateway, GUESS)[0]
    assert right.status == wrong.status == 429
    assert right.json() == wrong.json()
    assert {name for name, _ in right.headers} == {name for name, _ in wrong.headers}
    with gateway.client() as client:
        assert [client.request(key=key).status for _ in range(3)] == [429] * 3, "asking again on the same connection tells no more"


def test_other_addresses_are_unaffected(limited_gateway, key):
    gateway = limited_gateway()
    assert codes(ask(gateway, GUESS, count=8))[-1] == 429
    assert codes(ask(gateway, key, source="127.0.0.2", count=20)) == [200] * 20


def test_a_connection_that_was_let_in_before_goes_on(limited_gateway, key):
    gateway = limited_gateway()
    with gateway.client() as client:
        assert client.request(key=key).status == 200
        assert codes(ask(gateway, GUESS, count=6))[-1] == 429
        assert [client.request(key=key).status for _ in range(5)] == [200] * 5
        assert client.request(key=GUESS).status == 429
        assert client.request(key=key).status == 200


def test_good_logins_never_eat_it(limited_gateway, key):
    gateway = limited_gateway()
    assert codes(ask(gateway, key, count=30)) == [200] * 30
    assert codes(ask(gateway, GUESS, count=6)) == [401] * 5 + [429]


def test_parallel_good_logins_do_not_get_in_each_others_way(limited_gateway, key):
    gateway = limited_gateway(burst=1)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(codes(ask(gateway, key, count=10)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    join(threads)
    assert found == [200] * 80


def test_parallel_guesses_never_get_more_than_the_burst(limited_gateway):
    gateway = limited_gateway(burst=10)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(codes(ask(gateway, GUESS, count=8)))) for _ in range(10)]
    for thread in threads:
        thread.start()
    join(threads)
    assert found.count(401) == 10 and found.count(429) == 70


@pytest.mark.parametrize("what", ["no credential", "a wrong key", "a wrong token"])
def test_every_401_counts(start, what):
    gateway = start.gateway(change=login_limit(burst=2))
    credential = {"no credential": None, "a wrong key": GUESS, "a wrong token": "eyJhbGciOiJub25lIn0.e30."}[what]
    assert codes(ask(gateway, credential, count=3)) == [401, 401, 429]


def test_what_is_no_401_does_not_count(start, key):
    def change(config):
        login_limit(burst=1)(config)
        config["routes"].insert(0, {"name": "batch", "path": "/v1/batch", "authenticate": ["api_key"], "roles": ["batch"], "pool": "main"})
    gateway = start.gateway(change=change)
    assert codes(ask(gateway, key, path="/v1/batch", count=3)) == [403] * 3
    assert codes(ask(gateway, key, path="/nowhere", count=3)) == [404] * 3
    assert codes(ask(gateway, path="/open/echo", count=3)) == [200] * 3
    assert codes(ask(gateway, GUESS, count=2)) == [401, 429]
    assert codes(ask(gateway, GUESS, path="/open/echo", count=3)) == [200] * 3, "nobody logs in there"


def test_it_holds_on_every_route_together_or_on_each_by_itself(start):
    def two_routes(config):
        config["routes"].insert(0, {"name": "other", "path": "/v1/other", "authenticate": ["api_key"], "pool": "main"})

    def together(config):
        login_limit(burst=2)(config)
        two_routes(config)

    def apart(config):
        login_limit(burst=2, by=["address", "route"])(config)
        two_routes(config)
    gateway = start.gateway(change=together)
    assert codes(ask(gateway, GUESS, count=2) + ask(gateway, GUESS, path="/v1/other")) == [401, 401, 429]
    gateway = start.gateway(change=apart)
    assert codes(ask(gateway, GUESS, count=3) + ask(gateway, GUESS, path="/v1/other")) == [401, 401, 429, 401]


def test_in_shadow_it_refuses_nobody_and_is_counted(start, key):
    gateway = start.gateway(change=login_limit(burst=2, shadow=True))
    found = ask(gateway, GUESS, count=5)
    assert codes(found) == [401] * 5
    assert gateway.logged(found[-1].header("x-request-id"))["shadow_limit"] == "failed-logins"
    assert codes(ask(gateway, key, count=2)) == [200, 200]
    wait_until(lambda: gateway.metric("sallyport_limit_decisions_total", limit="failed-logins", decision="shadow_refused") >= 3, what="counted")


def test_other_limits_go_on_as_before(start, key):
    gateway = start.gateway(change=login_limit(burst=3, also={"per-caller": limited("1/h", 4)}))
    found = ask(gateway, key, count=5)
    assert codes(found) == [200] * 4 + [429] and "per-caller" in found[-1].json()["error"]["message"]
    assert found[0].header("x-ratelimit-remaining-requests") == "3"


def test_two_gateways_on_one_redis_count_together(start, redis_server):
    gateways = [start.gateway(change=login_limit(server=redis_server)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    assert codes(ask(gateways[0], GUESS, count=3) + ask(gateways[1], GUESS, count=3)) == [401] * 5 + [429]


@pytest.mark.parametrize("on_outage,guesses,login", [("open", [401] * 8, 200), ("closed", [429] * 8, 429), ("share", [401] * 3 + [429] * 5, 429)])
def test_when_redis_is_away_it_does_what_on_outage_says(start, redis_server, key, on_outage, guesses, login):
    gateway = start.gateway(change=login_limit(burst=6, server=redis_server, on_outage=on_outage))
    redis_up(gateway)
    redis_server.kill()
    wait_until(lambda: gateway.metric("sallyport_redis_up") == 0, 10, "it is noticed")
    assert codes(ask(gateway, GUESS, count=8)) == guesses
    assert codes(ask(gateway, key)) == [login]


@pytest.mark.parametrize("change,said", [
    (lambda config: config["routes"][0].update(limits=["failed-logins"]), "take it out of this one"),
    (lambda config: config["roles"]["user"].update(limits=["failed-logins"]), "take it out of this one"),
    (lambda config: config["limits"]["failed-logins"].update(by=["subject"]), "address, route and global"),
    (lambda config: config["limits"]["failed-logins"].update(by=["address", "key"]), "address, route and global"),
])
def test_what_could_not_hold_is_refused_by_check(start, change, said):
    from harness import command

    def all_of_it(config):
        login_limit()(config)
        change(config)
    gateway = start.gateway(change=all_of_it, start=False)
    shown = command("check", "--config", gateway.path)
    assert shown.returncode == 1 and said in shown.stderr
