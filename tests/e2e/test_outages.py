"""Redis killed, frozen, black-holed, failed over and restarted empty while requests keep coming: no answer is an error, each limit does what its
on_outage says, and it heals by itself. Times are printed, not judged: they are the machine's as much as ours."""
import os
import signal
import subprocess
import time

import pytest
import redis
from backend import fixed
from conftest import Redis
from crowd import Crowd, all_up, sharing
from harness import free_port, put_down, wait_until
from judge import Allowance, judge
from redis_nodes import Watched, stop_all

RATE, BURST, GATEWAYS = 100, 100, 2  # of two gateways, one of which is here
PACE, THREADS = 200, 4


# ---- What may happen to a Redis ----

class Killed:
    """And restarted empty, for nothing of it is on disk."""
    forgets, stays_away = True, True

    def __init__(self, directory):
        self.server = Redis(str(directory))

    @property
    def settings(self):
        return {"url": self.server.url}

    def away(self):
        self.server.kill()

    def back(self):
        self.server.start()

    def end(self):
        self.server.kill()


class Frozen(Killed):
    forgets, stays_away = False, True

    def away(self):
        self.server.signal(signal.SIGSTOP)

    def back(self):
        self.server.signal(signal.SIGCONT)


class BlackHoled:
    """In a network namespace of its own, out of which no packet comes while it is away."""
    forgets, stays_away = False, True

    def __init__(self, directory):
        pid = os.getpid()
        self.name, self.inside, self.outside = f"sallyport-{pid}", f"10.{77 + pid % 100}.{pid % 250}.2", f"10.{77 + pid % 100}.{pid % 250}.1"
        self.process, self.port = None, free_port()
        try:
            self.ip("netns", "add", self.name)
        except (OSError, subprocess.CalledProcessError) as problem:
            pytest.skip(f"no network namespace can be made here: {getattr(problem, 'stderr', problem)}")
        try:
            self.ip("link", "add", f"o{pid}", "type", "veth", "peer", "name", f"i{pid}", "netns", self.name)
            for where, device, address in (((), f"o{pid}", self.outside), (("-n", self.name), f"i{pid}", self.inside)):
                self.ip(*where, "address", "add", f"{address}/30", "dev", device)
                self.ip(*where, "link", "set", device, "up")
        except subprocess.CalledProcessError as problem:
            self.end()
            pytest.skip(f"no virtual link can be made here: {problem.stderr}")
        self.process = subprocess.Popen(["ip", "netns", "exec", self.name, "redis-server", "--port", str(self.port), "--bind", self.inside,
                                         "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", str(directory)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        api = redis.Redis(host=self.inside, port=self.port, socket_timeout=2)
        wait_until(lambda: self._answers(api), 10, "redis-server answers")

    @staticmethod
    def _answers(api):
        try:
            return api.ping()
        except redis.exceptions.RedisError:
            return False

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)

    @property
    def settings(self):
        return {"url": f"redis://{self.inside}:{self.port}"}

    def away(self):
        self.ip("-n", self.name, "route", "add", "blackhole", f"{self.outside}/32")

    def back(self):
        self.ip("-n", self.name, "route", "delete", "blackhole", f"{self.outside}/32")

    def end(self):
        if self.process:
            put_down(self.process)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, timeout=20)


class FailedOver:
    """What the replica had not heard yet is forgotten. It is back when the sentinels say so."""
    forgets, stays_away = True, False

    def __init__(self, directory):
        self.watched = Watched(directory)

    @property
    def settings(self):
        return self.watched.settings

    def away(self):
        self.watched.master.kill()

    def back(self):
        wait_until(lambda: self.watched.replica.api.info("replication")["role"] == "master", 30, "the sentinels have made the replica the master")

    def end(self):
        stop_all()


@pytest.fixture
def happening(tmp_path):
    made = []

    def make(kind):
        made.append(kind(tmp_path))
        return made[-1]
    yield make
    for one in made:
        one.end()


# ---- Steady demand ----

class Steady(Crowd):
    """PACE requests a second, whatever becomes of them, each thread on one connection."""

    def _run(self, dice):
        clients, due = {}, time.monotonic() + dice.random() * THREADS / PACE
        while not self.stopped.wait(max(0.0, due - time.monotonic())):
            self._one(clients, self.gateways[0], self.callers[0], dice)
            due = max(due + THREADS / PACE, time.monotonic() - 0.1)
        for client in clients.values():
            client.close()

    def since(self, began):
        return [asked for asked in list(self.asked) if asked.sent >= began and asked.ended]


def waits(asked):
    """How long the answers took, in ms."""
    took = sorted((one.ended - one.sent) / 1e6 for one in asked)
    return f"p50 {took[len(took) // 2]:.2f} p99 {took[len(took) * 99 // 100]:.2f} most {took[-1]:.2f} ms of {len(took)}" if took else "none"


def gateway_for(start, settings, policy):
    limits = {"per-caller": {"by": ["subject"], "requests": f"{RATE}/s", "request_burst": BURST, "mode": "strict", "on_outage": policy}}

    def change(config):
        sharing("", GATEWAYS, limits, workers=2)(config)
        config["redis"] = {"gateways": GATEWAYS, "deadline": "5ms", **settings}
    gateway = start.gateway(start.backend().on("/v1/thing", fixed()), change=change)
    all_up([gateway])
    return gateway


class Outage:
    """Demand before, during and after; when Redis went, when both workers knew, when it was back, when all was shared again."""

    def __init__(self, start, key, happening, policy):
        self.gateway = gateway_for(start, happening.settings, policy)
        backend = start.backends[-1]
        with Steady([self.gateway], backend, [key], "steady", threads=THREADS) as crowd:
            wait_until(lambda: self.runs_of(crowd, 0, lambda asked: not asked.degraded) >= 100, 20, "limits are shared")
            self.went = time.monotonic_ns()
            happening.away()
            wait_until(lambda: sum(asked.degraded for asked in crowd.since(self.went)) >= 20, 20, "it is noticed")
            if happening.stays_away:
                wait_until(lambda: self.gateway.metric("sallyport_redis_up") == 0 and self.runs_of(crowd, self.went, lambda asked: asked.degraded) >= 20,
                           20, "all know it")
            self.known = time.monotonic_ns()
            if happening.stays_away:
                wait_until(lambda: self.nobody_asks(crowd), 30, "nobody waits for a Redis that all know to be away")
            happening.back()
            self.returned = time.monotonic_ns()
            all_up([self.gateway])
            wait_until(lambda: self.runs_of(crowd, self.returned, lambda asked: not asked.degraded) >= 50, 20, "it heals")
            self.healed = min(asked.sent for asked in self.last_run(crowd))
        self.crowd = crowd
        self.during = [asked for asked in crowd.asked if self.known <= asked.sent and asked.ended and asked.ended <= self.returned]
        self.allowance = Allowance(RATE, BURST)
        if happening.forgets:
            self.allowance.emptied(self.went, self.returned)

    def nobody_asks(self, crowd):
        """While more requests came than do in a second, after which workers tell what they count."""
        began, asked = time.monotonic_ns(), self.gateway.metric("sallyport_limits_strict_total")
        wait_until(lambda: len(crowd.since(began)) >= 3 * PACE // 2, 20, "requests during the outage")
        return self.gateway.metric("sallyport_limits_strict_total") == asked

    @staticmethod
    def last_run(crowd):
        """The requests after the last degraded one."""
        seen = sorted(list(crowd.asked), key=lambda asked: asked.sent)
        last = max((i for i, asked in enumerate(seen) if asked.degraded), default=-1)
        return seen[last + 1:]

    @staticmethod
    def runs_of(crowd, began, wanted):
        """How many of the latest requests, one after the other, were so."""
        count = 0
        for asked in sorted(crowd.since(began), key=lambda asked: -asked.sent):
            if not wanted(asked):
                break
            count += 1
        return count

    def tell(self, what):
        before = [asked for asked in self.crowd.asked if asked.ended and asked.ended < self.went]
        finding = [asked for asked in self.crowd.asked if asked.ended and self.went <= asked.sent < self.known]
        print(f"\n{what}: before: {waits(before)}; while it was found out: {waits(finding)}; "
              f"during: {waits(self.during)}; healed {(self.healed - self.returned) / 1e9:.2f} s after its return")


@pytest.mark.parametrize("kind", [Killed, Frozen, BlackHoled, FailedOver])
def test_an_outage_is_no_error_asks_nothing_of_redis_and_ends_by_itself(start, key, happening, kind):
    outage = Outage(start, key, happening(kind), "share")
    outage.tell(kind.__name__)
    crowd, gateway = outage.crowd, outage.gateway
    crowd.no_errors()
    assert set(crowd.statuses()) == {200, 429}
    verdict, shared, alone = crowd.fair(key, outage.allowance, seed="steady")
    admitted = judge(crowd.admissions(key)[1][gateway], Allowance(RATE // GATEWAYS, BURST // GATEWAYS))
    print(f"{shared} shared, {alone} alone; shared: {verdict}; alone: {admitted}")
    assert admitted.fair, "its share, and no more"
    if kind is not FailedOver:
        assert all(asked.degraded for asked in outage.during) and {asked.status for asked in outage.during} == {200, 429}


@pytest.mark.parametrize("policy,status", [("open", 200), ("closed", 429)])
def test_an_outage_is_what_the_limit_says(start, key, happening, policy, status):
    outage = Outage(start, key, happening(Killed), policy)
    outage.tell(policy)
    outage.crowd.no_errors()
    assert {asked.status for asked in outage.during} == {status}
    assert judge(outage.crowd.admissions(key)[0], outage.allowance).fair
    assert outage.during
    if policy == "closed":
        assert all(int(asked.response.header("retry-after")) >= 1 for asked in outage.during)


def test_a_redis_that_is_replaced_by_an_empty_one_at_once_gives_one_burst_more_at_most(start, key, happening):
    replaced = happening(Killed)
    gateway = gateway_for(start, replaced.settings, "share")
    allowance = Allowance(RATE, BURST)
    with Steady([gateway], start.backends[-1], [key], "steady", threads=THREADS) as crowd:
        for _ in range(3):
            began = time.monotonic_ns()
            replaced.away()
            replaced.back()
            allowance.emptied(began, time.monotonic_ns())
            wait_until(lambda: Outage.runs_of(crowd, began, lambda asked: not asked.degraded) >= 50, 20, "limits are shared")
    crowd.no_errors()
    verdict, shared, alone = crowd.fair(key, allowance, RATE, BURST)
    print(f"{shared} shared, {alone} alone, {verdict}")
