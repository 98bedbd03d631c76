"""Requests at one time: never more than the limit, over all workers and gateways, and no place is ever left over."""
import math
import os
import random
import signal
import threading

import pytest
import test_queue
from conftest import Starter
from harness import CHAT, BrokenTransfer, join, make_key, wait_until
from redis_nodes import Cluster, stop_all
from test_queue import Caller, under_way
from test_redis import redis_up
from test_redis_topology import credentials, user_of

BOUND = 5
TTL = 15  # seconds after which the places of a gateway that died are free
CALLERS = {"alone": None, "a1": "acme", "a2": "acme", "b": "beta"}


@pytest.fixture(scope="module")
def callers(tmp_path_factory):
    """One API key for each; `callers["a1"]` is the secret."""
    path = str(tmp_path_factory.mktemp("callers") / "keys.yaml")
    return {"file": path, **{name: make_key(path, name, tenant=tenant) for name, tenant in CALLERS.items()}}


@pytest.fixture
def start(certificate, callers, issuer):
    starter = Starter(certificate, callers, issuer)
    yield starter
    starter.finish()


def bound(redis=None, workers=1, by=("subject",), concurrency=BOUND, gateways=1, **limit):
    """Tests of exactness give Redis a deadline that a busy machine keeps."""
    def change(config):
        config["workers"] = workers
        if redis:
            config["redis"] = {"url": redis.url, "gateways": gateways, "deadline": "1s"}
        config["limits"] = {"at-once": {"by": list(by), "concurrency": concurrency, **limit}}
        config["routes"][0]["limits"] = ["at-once"]
    return change


class Turns(test_queue.Turns):
    """The same, but it sees who leaves. `moment`: answers by itself after at most so many seconds."""

    def __init__(self, backend, moment=None):
        super().__init__(backend)
        self.moment, self.chance = moment, random.Random(1)

    def waits(self, connection):
        """Whether somebody is there to be answered."""
        if self.moment:
            return not connection.wait_gone(self.chance.uniform(0, self.moment))
        while not self.permits.acquire(blocking=False):
            if connection.backend.stopping or connection.wait_gone(0.005):
                return False
        return True

    def __call__(self, connection, request):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        there = self.waits(connection)
        with self.lock:
            self.at_once -= 1
        if there:
            connection.answer(body={"served": True})
        return there


def statuses(crowd):
    return [caller.answer.status if caller.answer else None for caller in crowd]


def refused(crowd):
    return [caller for caller in crowd if caller.answer and caller.answer.status == 429]


def places_in_redis(redis):
    """{key: {gateway: places}}"""
    values = {key.decode(): (redis.api.get(key) or b"").decode().split()[2:] for key in redis.api.keys("sallyport:at-once:*:c")}
    return {key: {part.split(":")[0]: int(part.split(":")[1]) for part in value} for key, value in values.items() if value}


def nothing_left(gateways, redis=None, within=10):
    for gateway in gateways:
        under_way(gateway, 0)
    if redis:
        wait_until(lambda: not places_in_redis(redis), within, "no place is had by anybody")


def all_are_free(gateway, turns, key, count=BOUND, within=5):
    """So many requests get through at one time."""
    crowd = []

    def filled():
        nonlocal crowd
        crowd = [caller for caller in crowd if not caller.answer]
        crowd += [Caller(gateway, f"again{n}", key) for n in range(count - len(crowd))]
        return turns.at_once == count
    wait_until(filled, within, f"{count} requests at one time")
    turns.let(count)
    join(crowd)


# ---- How many ----

@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", ["leased", "strict"])
def test_gateways_on_one_redis_never_have_more_at_the_backend_than_the_bound(start, redis_server, callers, workers, mode):
    backend = start.backend()
    turns = Turns(backend)
    gateways = [start.gateway(backend, change=bound(redis_server, workers, mode=mode)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    crowd = [Caller(gateways[n % 2], f"n{n}", callers["alone"]) for n in range(50)]
    wait_until(lambda: len(refused(crowd)) == 50 - BOUND, 10, "all but some are refused")
    assert turns.at_once == BOUND
    turns.let(BOUND)
    join(crowd)
    assert sorted(statuses(crowd)) == [200] * BOUND + [429] * (50 - BOUND)
    assert turns.most_at_once == BOUND
    nothing_left(gateways, redis_server)
    all_are_free(gateways[0], turns, callers["alone"])
    nothing_left(gateways, redis_server)
    all_are_free(gateways[1], turns, callers["alone"])
    assert turns.most_at_once == BOUND


def test_a_429_says_when_to_come_back_and_which_limit(start, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(concurrency=1))
    first = Caller(gateway, "first", callers["alone"])
    turns.has()
    answer = gateway.ask("POST", "/v1/turn?second", key=callers["alone"], body=b"{}")
    assert answer.status == 429
    assert int(answer.header("retry-after")) >= 1
    assert int(answer.header("retry-after")) == math.ceil(int(answer.header("retry-after-ms")) / 1000)
    error = answer.json()["error"]
    assert error["code"] == "rate_limit_exceeded" and "at-once" in error["message"]
    assert gateway.logged(answer.header("x-request-id"))["limit"] == "at-once"
    turns.let()
    join([first])
    assert first.answer.status == 200
    assert len(backend.requests) == 1


def test_under_load_the_bound_is_used_and_never_exceeded(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend, moment=0.01)
    gateways = [start.gateway(backend, change=bound(redis_server, workers=2)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    found = []

    def asks(gateway):
        with gateway.client() as client:
            for n in range(60):
                found.append(client.request("POST", f"/v1/turn?{n}", key=callers["alone"], body=b"{}").status)
    threads = [threading.Thread(target=asks, args=(gateways[n % 2],)) for n in range(16)]
    for thread in threads:
        thread.start()
    join(threads)
    assert set(found) <= {200, 429} and len(found) == 16 * 60 and found.count(200) >= 60
    assert turns.most_at_once == BOUND
    nothing_left(gateways, redis_server)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("by,together,apart", [(["subject"], ("a1", "a1"), "a2"), (["tenant"], ("a1", "a2"), "b"), (["key"], ("a1", "a1"), "a2")])
def test_places_are_counted_by_what_the_limit_says(start, redis_server, callers, by, together, apart, shared):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(redis_server if shared else None, by=by, concurrency=1))
    if shared:
        redis_up(gateway)
    crowd = [Caller(gateway, "first", callers[together[0]])]
    turns.has()
    assert gateway.ask("POST", "/v1/turn?second", key=callers[together[1]], body=b"{}").status == 429
    crowd.append(Caller(gateway, "other", callers[apart]))
    turns.has(2)
    turns.let(2)
    join(crowd)
    assert statuses(crowd) == [200, 200]


def test_places_of_a_model(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)

    def change(config):
        bound(redis_server, by=("model",), concurrency=1)(config)
        config["models"] = {"small": {"pool": "main"}, "large": {"pool": "main"}}
        config["routes"][0]["models"] = "body"
    gateway = start.gateway(backend, change=change)
    redis_up(gateway)
    crowd = [Caller(gateway, "small", callers["alone"], {**CHAT, "model": "small"})]
    turns.has()
    assert gateway.ask("POST", "/v1/turn?another", key=callers["b"], body={**CHAT, "model": "small"}).status == 429
    crowd.append(Caller(gateway, "large", callers["b"], {**CHAT, "model": "large"}))
    turns.has(2)
    turns.let(2)
    join(crowd)
    assert statuses(crowd) == [200, 200]


def test_workers_share_the_places_of_a_machine_without_redis(start, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(workers=4))
    crowd = [Caller(gateway, f"n{n}", callers["alone"]) for n in range(40)]
    wait_until(lambda: len(refused(crowd)) == 40 - BOUND, 10, "all but some are refused")
    turns.let(BOUND)
    join(crowd)
    assert turns.most_at_once == BOUND
    all_are_free(gateway, turns, callers["alone"])


def test_a_shadow_limit_refuses_nobody_and_says_whom_it_would_have(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(redis_server, concurrency=2, shadow=True))
    redis_up(gateway)
    crowd = [Caller(gateway, f"n{n}", callers["alone"]) for n in range(4)]
    turns.has(4)
    turns.let(4)
    join(crowd)
    assert statuses(crowd) == [200] * 4
    lines = [gateway.logged(caller.answer.header("x-request-id")) for caller in crowd]
    assert sum(line.get("shadow_limit") == "at-once" for line in lines) == 2
    nothing_left([gateway], redis_server)


def test_a_reload_changes_the_bound_for_all_gateways(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateways = [start.gateway(backend, change=bound(redis_server, concurrency=2)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    crowd = [Caller(gateways[0], f"n{n}", callers["alone"]) for n in range(2)]
    turns.has(2)
    assert gateways[1].ask("POST", "/v1/turn", key=callers["alone"], body=b"{}").status == 429
    gateways[1].config["limits"]["at-once"]["concurrency"] = 3
    assert gateways[1].reload().returncode == 0

    def one_more():
        crowd.append(Caller(gateways[1], "more", callers["alone"]))
        wait_until(lambda: crowd[-1].answer or turns.at_once == 3, 10, "it is decided")
        return not crowd[-1].answer
    wait_until(one_more, 10, "there is one place more")
    assert gateways[0].ask("POST", "/v1/turn", key=callers["alone"], body=b"{}").status == 429
    turns.let(3)
    join(crowd)
    assert turns.most_at_once == 3


def test_places_in_a_cluster_need_no_right_of_their_own(start, callers, tmp_path):
    backend = start.backend()
    turns = Turns(backend)
    try:
        cluster = Cluster(tmp_path)
        for node in cluster.nodes:
            user_of(node, "+cluster|slots", "+asking")

        def change(config):
            bound(concurrency=2)(config)
            config["redis"] = {**cluster.settings, **credentials(tmp_path), "deadline": "1s"}
        gateways = [start.gateway(backend, change=change) for _ in range(2)]
        for gateway in gateways:
            redis_up(gateway)
        crowd = {name: [Caller(gateways[n % 2], f"{name}{n}", callers[name]) for n in range(6)] for name in CALLERS}
        wait_until(lambda: all(len(refused(callers_of)) == 4 for callers_of in crowd.values()), 20, "two of each are admitted")
        assert turns.at_once == 2 * len(CALLERS)
        assert not any(caller.answer.header("x-sallyport-degraded") for callers_of in crowd.values() for caller in refused(callers_of))
        turns.let(2 * len(CALLERS))
        for callers_of in crowd.values():
            join(callers_of)
        for node in cluster.nodes:
            wait_until(lambda node=node: not places_in_redis(node), 10, "no place is had by anybody")
    finally:
        stop_all()


# ---- Whatever happens ----

@pytest.mark.parametrize("shared", [False, True])
def test_the_places_of_a_killed_worker_are_free_at_once(start, redis_server, callers, shared):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(redis_server if shared else None, workers=2))
    if shared:
        redis_up(gateway)
    crowd = [Caller(gateway, f"n{n}", callers["alone"]) for n in range(BOUND)]
    turns.has(BOUND)
    for pid in gateway.workers():
        os.kill(pid, signal.SIGKILL)
    join(crowd)
    wait_until(lambda: turns.at_once == 0, 10, "the backend has seen them go")
    wait_until(lambda: len(gateway.workers()) == 2 and gateway.is_ready(), 10, "there are workers again")
    all_are_free(gateway, turns, callers["alone"], within=10)
    nothing_left([gateway], redis_server if shared else None)
    assert turns.most_at_once == BOUND


@pytest.mark.slow
def test_the_places_of_a_killed_gateway_are_free_when_it_was_not_heard_of_for_long(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateways = [start.gateway(backend, change=bound(redis_server)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    crowd = [Caller(gateways[0], f"n{n}", callers["alone"]) for n in range(BOUND)]
    turns.has(BOUND)
    gateways[0].kill()
    join(crowd)
    assert gateways[1].ask("POST", "/v1/turn", key=callers["alone"], body=b"{}").status == 429
    wait_until(lambda: turns.at_once == 0, 10, "the backend has seen them go")
    all_are_free(gateways[1], turns, callers["alone"], within=TTL + 10)
    assert turns.most_at_once == BOUND
    nothing_left(gateways[1:], redis_server)
    gateways[0].process = None


def test_a_gateway_that_ends_leaves_no_place_behind(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateways = [start.gateway(backend, change=bound(redis_server)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    crowd = [Caller(gateways[0], f"n{n}", callers["alone"]) for n in range(BOUND)]
    turns.has(BOUND)
    turns.let(BOUND)
    join(crowd)
    gateways[0].stop()
    all_are_free(gateways[1], turns, callers["alone"], within=5)


def test_clients_that_leave_at_random_moments_leave_no_place_behind(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateways = [start.gateway(backend, change=bound(redis_server, workers=2)) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    chance = random.Random(4)
    turns.let(60)

    def comes_and_goes(count):
        for n in range(count):
            client = gateways[chance.randrange(2)].client()
            try:
                client.send_request("POST", f"/v1/turn?{n}", body=b"{}", key=callers["alone"])
                client.sock.settimeout(chance.choice([0.0005, 0.002, 0.01, 0.03]))
                client.read_response("POST")
            except (BrokenTransfer, OSError):
                pass
            finally:
                client.reset() if chance.randrange(2) else client.close()
    threads = [threading.Thread(target=comes_and_goes, args=(30,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    join(threads)
    nothing_left(gateways, redis_server)
    wait_until(lambda: turns.at_once == 0, 10, "the backend has seen them go")
    while turns.permits.acquire(blocking=False):
        pass
    for gateway in gateways:
        all_are_free(gateway, turns, callers["alone"])
        nothing_left(gateways, redis_server)


def test_streams_keep_their_place_until_they_end(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=bound(redis_server, concurrency=1))
    redis_up(gateway)
    crowd = [Caller(gateway, "first", callers["alone"])]
    turns.has()
    with gateway.client() as client:
        for _ in range(3):
            assert client.request("POST", "/v1/turn?refused", key=callers["alone"], body=b"{}").status == 429
    crowd[0].leave()
    join(crowd)
    all_are_free(gateway, turns, callers["alone"], count=1)


def test_while_redis_is_away_each_gateway_has_its_part_and_tells_when_it_is_back(start, redis_server, callers):
    backend = start.backend()
    turns = Turns(backend)

    def change(config):
        bound(redis_server, concurrency=4, gateways=2, on_outage="share")(config)
        config["redis"]["deadline"] = "5ms"
    gateways = [start.gateway(backend, change=change) for _ in range(2)]
    for gateway in gateways:
        redis_up(gateway)
    redis_server.kill()
    for gateway in gateways:
        wait_until(lambda gateway=gateway: gateway.metric("sallyport_redis_up") == 0, 10, "Redis is missed")
    crowd = [Caller(gateway, f"n{n}", callers["alone"]) for gateway in gateways for n in range(4)]
    wait_until(lambda: len(refused(crowd)) == 4, 10, "half of them are refused")
    assert turns.at_once == 4
    assert all(caller.answer.header("x-sallyport-degraded") == "limits" for caller in refused(crowd))
    redis_server.start()
    wait_until(lambda: sorted(places for had in places_in_redis(redis_server).values() for places in had.values()) == [2, 2], 10,
               "what runs is told to Redis")
    turns.let(4)
    join(crowd)
    assert sorted(statuses(crowd)) == [200] * 4 + [429] * 4
    nothing_left(gateways, redis_server)
