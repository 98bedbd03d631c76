"""The queue in front of a pool: who is next, who is refused, and that nobody and nothing is left over."""
import os
import random
import signal
import socket
import threading

import pytest
from conftest import Starter
from harness import SLOWER, BrokenTransfer, join, make_key, wait_until

CALLERS = {"alone": ("user", None), "a": ("user", "a"), "b": ("user", "b"), "c": ("user", "c"),
           "high": ("vip", "a"), "low": ("batch", "a")}


@pytest.fixture(scope="module")
def callers(tmp_path_factory):
    """One API key for each; `callers["a"]` is the secret."""
    path = str(tmp_path_factory.mktemp("callers") / "keys.yaml")
    return {"file": path, **{name: make_key(path, name, roles=(role,), tenant=tenant) for name, (role, tenant) in CALLERS.items()}}


@pytest.fixture
def start(certificate, callers, issuer):
    starter = Starter(certificate, callers, issuer)
    yield starter
    starter.finish()


class Turns:
    """A model server that answers each request when the test says so, and sees how many it has at once."""

    def __init__(self, backend):
        self.backend, self.permits, self.lock = backend, threading.Semaphore(0), threading.Lock()
        self.at_once = self.most_at_once = self.answered = 0
        backend.on("/v1/turn", self)

    def __call__(self, connection, request):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        while not self.permits.acquire(timeout=0.02):
            if connection.backend.stopping or connection.wait_gone(0):
                break
        with self.lock:
            self.at_once -= 1
            self.answered += 1
        connection.answer(body={"served": True})

    def let(self, n=1):
        for _ in range(n):
            self.permits.release()

    def order(self):
        """The names of those who came, in order."""
        return [request.target.split("?", 1)[1] for request in list(self.backend.requests) if "?" in request.target]

    def has(self, n=1):
        wait_until(lambda: len(self.order()) >= n, what=f"{n} requests at the server")


class Caller(threading.Thread):
    """A client on a connection of its own."""

    def __init__(self, gateway, name, key, body=None):
        super().__init__(daemon=True)
        self.client, self.answer, self.problem = gateway.client(timeout=60), None, None
        self.name, self.key, self.body = name, key, body
        self.start()

    def run(self):
        try:
            self.answer = self.client.request("POST", f"/v1/turn?{self.name}", key=self.key, body=self.body or b"{}")
        except (BrokenTransfer, OSError) as problem:
            self.problem = problem
        finally:
            self.client.close()

    def leave(self):
        """Ends the connection under the thread that waits for an answer on it, if it still does."""
        try:
            with socket.socket(fileno=os.dup(self.client.sock.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def pool(max_in_flight=1, **queue):
    """One server, and a queue before it."""
    def change(config):
        config["roles"] = {"user": {"models": ["*"]}, "vip": {"models": ["*"], "priority": "high"},
                           "batch": {"models": ["*"], "priority": "low"}}
        for server in config["pools"]["main"]["servers"]:
            server["max_in_flight"] = max_in_flight
        config["pools"]["main"]["queue"] = {"depth": 64, "timeout": "60s", **queue}
    return change


def two_workers(**queue):
    def change(config):
        pool(**queue)(config)
        config["workers"] = 2
    return change


def under_way(gateway, n):
    """Until the gateway has this many requests, those that wait and those that do not."""
    wait_until(lambda: gateway.metric("sallyport_exchanges") == n, 10, f"{n} requests under way")


def held(start, callers, change=None, **more):
    """A gateway whose one server has all it may have: one request, which its caller gets answered last."""
    backend = start.backend()
    turns = Turns(backend)
    gateway = start.gateway(backend, change=change or pool(**more))
    first = Caller(gateway, "first", callers["alone"])
    turns.has(1)
    return gateway, turns, first


# ---- Order ----

def test_who_waits_is_served_by_the_priority_of_the_roles(start, callers):
    gateway, turns, first = held(start, callers)
    waiting = [Caller(gateway, name, callers[key]) for name, key in
               [("l1", "low"), ("n1", "a"), ("h1", "high"), ("l2", "low"), ("n2", "a"), ("h2", "high")]]
    under_way(gateway, 7)
    wait_until(lambda: gateway.metric("sallyport_queue_length", pool="main") == 6, what="the metrics tell how many wait")
    turns.let(7)
    join([first, *waiting])
    assert [caller.answer.status for caller in waiting] == [200] * 6
    assert [name[0] for name in turns.order()] == ["f", "h", "h", "n", "n", "l", "l"]


def test_a_tenant_with_many_requests_delays_anothers_only_one_by_one_turn(start, callers):
    gateway, turns, first = held(start, callers)
    many = [Caller(gateway, f"a{i}", callers["a"]) for i in range(12)]
    under_way(gateway, 13)
    one = [Caller(gateway, "b", callers["b"])]
    under_way(gateway, 14)
    one += [Caller(gateway, "c", callers["c"])]
    under_way(gateway, 15)
    turns.let(15)
    join([first, *many, *one])
    assert [name[0] for name in turns.order()] == ["f", "a", "b", "c"] + ["a"] * 11


def test_one_tenant_is_served_in_the_order_it_came(start, callers):
    gateway, turns, first = held(start, callers)
    waiting = []
    for i in range(3):
        waiting.append(Caller(gateway, f"{i}", callers["a"]))
        under_way(gateway, 2 + i)
    turns.let(4)
    join([first, *waiting])
    assert turns.order() == ["first", "0", "1", "2"]


# ---- Refusals ----

def test_a_full_queue_is_a_503_that_says_when_to_try_again(start, callers):
    gateway, turns, first = held(start, callers, depth=2)
    waiting = [Caller(gateway, "w", callers["a"]) for _ in range(2)]
    under_way(gateway, 3)
    refused = gateway.ask("POST", "/v1/turn?late", key=callers["a"], body=b"{}")
    assert refused.status == 503
    assert 1 <= int(refused.header("retry-after")) <= 60
    assert refused.json()["error"]["code"] == "queue_full"
    high = Caller(gateway, "h", callers["high"])  # takes the place of one of them
    wait_until(lambda: [caller for caller in waiting if caller.answer], what="one gives way")
    turns.let(3)
    join([first, high, *waiting])
    assert high.answer.status == 200
    assert sorted(caller.answer.status for caller in waiting) == [200, 503]
    assert turns.order() == ["first", "h", "w"]


def test_who_waits_longer_than_the_timeout_gets_a_503_that_says_when_to_try_again(start, callers):
    gateway, turns, first = held(start, callers, timeout="300ms")
    refused = gateway.ask("POST", "/v1/turn?late", key=callers["a"], body=b"{}")
    assert refused.status == 503
    assert 1 <= int(refused.header("retry-after")) <= 60
    assert refused.json()["error"]["code"] == "queue_timeout"
    assert gateway.logged(refused.header("x-request-id"))["reason"] == "queue timed out"
    turns.let(1)
    join([first])
    assert first.answer.status == 200
    assert turns.order() == ["first"]


def test_without_a_queue_nobody_waits(start, callers):
    def change(config):
        pool()(config)
        del config["pools"]["main"]["queue"]
    gateway, turns, first = held(start, callers, change=change)
    refused = gateway.ask("POST", "/v1/turn?late", key=callers["a"], body=b"{}")
    assert refused.status == 503 and refused.header("retry-after")
    turns.let(1)
    join([first])


# ---- Leaving ----

def test_a_client_that_leaves_frees_its_place_at_once(start, callers):
    gateway, turns, first = held(start, callers, depth=1)
    leaves = Caller(gateway, "leaves", callers["a"])
    under_way(gateway, 2)
    assert gateway.ask("POST", "/v1/turn?late", key=callers["a"], body=b"{}").status == 503
    leaves.leave()
    under_way(gateway, 1)
    stays = Caller(gateway, "stays", callers["a"])
    under_way(gateway, 2)
    turns.let(2)
    join([first, stays])
    assert stays.answer.status == 200
    assert turns.order() == ["first", "stays"]


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_gone_as_well(start, callers, leave):
    """What it has sent is more than is read of a request that waits, and its end comes behind that; as much as the kernel takes."""
    gateway, turns, first = held(start, callers)
    large = gateway.client()
    large.send(f"POST /v1/turn?large HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {callers['a']}\r\n"
               "Content-Length: 1000000\r\n\r\n" + "x" * 100_000)
    under_way(gateway, 2)
    getattr(large, leave)()
    under_way(gateway, 1)
    turns.let(1)
    join([first])
    assert turns.order() == ["first"]


def test_of_many_that_leave_while_they_wait_nothing_is_left_over(start, callers):
    depth = 120

    gateway, turns, first = held(start, callers, change=two_workers(depth=depth))
    chance = random.Random(4)
    waiting = [Caller(gateway, f"{i}", callers[chance.choice("abc")]) for i in range(depth)]
    under_way(gateway, depth + 1)
    for caller in waiting:
        turns.let(chance.choice((0, 1)))
        if chance.random() < 0.4:
            caller.leave()
    turns.let(depth)
    join([first, *waiting])
    under_way(gateway, 0)
    assert turns.most_at_once == 1
    stayed = [caller.answer.status for caller in waiting if caller.answer]
    assert stayed == [200] * len(stayed) and len(turns.order()) < depth, "some left before it was their turn"
    # Every place is there again: one at the server, all the others in the queue, and no more.
    turns.permits = threading.Semaphore(0)
    again = [Caller(gateway, "again", callers["a"]) for _ in range(depth + 1)]
    under_way(gateway, depth + 1)
    assert gateway.ask("POST", "/v1/turn?late", key=callers["a"], body=b"{}").status == 503
    turns.let(depth + 1)
    join(again)
    assert [caller.answer.status for caller in again] == [200] * (depth + 1)


# ---- Waiting ----

def test_a_body_that_is_not_whole_waits_as_long_as_any_other(start, callers):
    """Longer than its client may be silent: it is not the client that is slow."""
    def change(config):
        pool()(config)
        config["routes"][0]["timeouts"] = {"idle": "1s"}
    gateway, turns, first = held(start, callers, change=change)
    large = Caller(gateway, "large", callers["a"], body=b"x" * 1_000_000)
    under_way(gateway, 2)
    assert first.is_alive()
    silent = threading.Timer(1.5 * SLOWER, turns.let, (2,))
    silent.start()
    join([large, silent, first])
    assert large.answer and large.answer.status == 200, (large.answer, large.problem)
    assert turns.backend.requests[-1].body == b"x" * 1_000_000


# ---- Reload ----

def test_over_a_reload_nobody_who_waits_is_lost_and_more_room_is_used_at_once(start, callers):
    gateway, turns, first = held(start, callers)
    waiting = [Caller(gateway, f"{i}", callers["abc"[i % 3]]) for i in range(9)]
    under_way(gateway, 10)
    gateway.config["pools"]["main"]["servers"][0]["max_in_flight"] = 4
    assert gateway.reload().returncode == 0
    turns.has(4)
    assert turns.at_once == 4
    late = Caller(gateway, "late", callers["alone"])
    gateway.config["pools"]["main"]["servers"][0]["max_in_flight"] = 2
    assert gateway.reload().returncode == 0
    turns.let(11)
    join([first, late, *waiting])
    assert [caller.answer.status for caller in [first, late, *waiting]] == [200] * 11
    assert turns.most_at_once == 4


def test_those_who_wait_for_a_pool_that_a_reload_removes_hear_of_it(start, callers):
    gateway, turns, first = held(start, callers)
    waiting = Caller(gateway, "w", callers["a"])
    under_way(gateway, 2)
    gateway.config["pools"]["other"] = gateway.config["pools"].pop("main")
    for route in gateway.config["routes"]:
        route["pool"] = "other"
    assert gateway.reload().returncode == 0
    join([waiting])
    assert waiting.answer.status == 503 and waiting.answer.header("retry-after")
    turns.let(1)
    join([first])
    assert first.answer.status == 200


def test_who_waits_when_the_gateway_is_told_to_end_is_served_before_it_does(start, callers):
    gateway, turns, first = held(start, callers, change=two_workers())
    waiting = [Caller(gateway, f"{i}", callers["abc"[i % 3]]) for i in range(10)]
    under_way(gateway, 11)
    gateway.signal(signal.SIGTERM)
    wait_until(lambda: gateway.admin("/readyz")[0] != 200, what="it drains")
    turns.let(11)
    join([first, *waiting])
    assert [caller.answer.status for caller in [first, *waiting]] == [200] * 11
    assert gateway.ended() == 0


# ---- Several workers ----

def test_two_workers_keep_to_one_bound_and_serve_all(start, callers):
    gateway, turns, first = held(start, callers, change=two_workers())
    waiting = [Caller(gateway, f"{i}", callers["abc"[i % 3]]) for i in range(40)]
    under_way(gateway, 41)
    turns.let(41)
    join([first, *waiting])
    assert [caller.answer.status for caller in waiting] == [200] * 40
    assert turns.most_at_once == 1


def test_two_workers_keep_to_one_order_of_priorities(start, callers):
    gateway, turns, first = held(start, callers, change=two_workers())
    waiting = [Caller(gateway, f"l{i}", callers["low"]) for i in range(8)]
    waiting += [Caller(gateway, f"h{i}", callers["high"]) for i in range(8)]
    under_way(gateway, 17)
    for n in range(17):
        turns.has(n + 1)
        turns.let(1)
    join([first, *waiting])
    order = "".join(name[0] for name in turns.order())
    assert order[1:9].count("h") >= 6, f"{order}: but for a worker that gets no processor for a while, all eight"


def test_a_killed_worker_gives_back_its_requests_in_flight_and_its_places(start, callers):
    """kill -9 of the worker that has the server's one request: those who wait in the other one are served."""
    gateway, turns, first = held(start, callers, change=two_workers())
    for _ in range(2):  # whose it is cannot be seen from outside: one or the other
        waiting = [Caller(gateway, f"{i}", callers["abc"[i % 3]]) for i in range(20)]
        wait_until(lambda: gateway.metric("sallyport_exchanges") >= 20, 10, "all wait")
        before = gateway.workers()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(gateway.workers()) == 2 and before[0] not in gateway.workers() and gateway.is_ready(), 10, "a new worker")
        wait_until(lambda: gateway.metric("sallyport_exchanges") == sum(caller.is_alive() for caller in [first, *waiting]), 10,
                   "whoever was cut has noticed")
        if not first.is_alive():
            break
        for caller in waiting:
            caller.leave()
        join(waiting)
        under_way(gateway, 1)
    assert first.problem, "it was cut"
    turns.let(21)
    join(waiting)
    survived = [caller for caller in waiting if caller.answer]
    assert [caller.answer.status for caller in survived] == [200] * len(survived)
    assert gateway.ask("POST", "/v1/turn?after", key=callers["a"], body=b"{}").status == 200
    under_way(gateway, 0)
