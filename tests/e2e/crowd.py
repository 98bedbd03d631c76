"""Callers who ask as they please of several gateways that share one Redis, and what became of each request, for the judge."""
import gc
import os
import random
import ssl
import threading
import time

from harness import BrokenTransfer, join, wait_until
from judge import Admission, Allowance, judge

SECONDS = float(os.environ.get("SALLYPORT_PROPERTY_SECONDS", "48"))  # of random demand, all properties together


class Asked:
    """One request: when it was sent, what was answered (status 0: the connection broke), whether decided without Redis."""

    def __init__(self, number, gateway, caller):
        self.number, self.gateway, self.caller = number, gateway, caller
        self.sent, self.ended, self.status, self.degraded, self.response = time.monotonic_ns(), None, 0, False, None


class Crowd:
    """`callers`: their keys. Each thread asks of a gateway of its choice, in bursts and with pauses, until it is told to stop."""

    def __init__(self, gateways, backend, callers, seed, threads=8, ask=None, eager=0.5):
        self.gateways, self.backend, self.callers, self.eager = gateways, backend, callers, eager
        self.ask = ask or (lambda client, number, key, _: client.request("GET", f"/v1/thing?number={number}", key=key))
        self.asked, self.stopped, self.numbers = [], threading.Event(), iter(range(10**9))
        self.threads = [threading.Thread(target=self._run, args=(random.Random(f"{seed}/{i}"),), daemon=True) for i in range(threads)]

    def __enter__(self):
        gc.disable()  # it would stop all callers at once, for longer the more has been asked
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        join(self.threads)
        gc.enable()

    def _run(self, dice):
        clients = {}
        while not self.stopped.is_set():
            gateway, caller = dice.choice(self.gateways), dice.choice(self.callers)
            for _ in range(dice.choice((1, 2, 5, 20, 80))):
                if self.stopped.is_set():
                    break
                self._one(clients, gateway, caller, dice)
            if dice.random() > self.eager:
                self.stopped.wait(dice.expovariate(20))
        for client in clients.values():
            client.close()

    def _one(self, clients, gateway, caller, dice):
        asked = Asked(next(self.numbers), gateway, caller)
        try:
            if gateway not in clients:
                clients[gateway] = gateway.client()
            asked.sent = time.monotonic_ns()
            response = self.ask(clients[gateway], asked.number, caller, dice)
            asked.ended = time.monotonic_ns()
            asked.status, asked.degraded, asked.response = response.status, response.header("x-sallyport-degraded") is not None, response
            if (response.header("connection") or "").lower() == "close":
                clients.pop(gateway).close()
        except (OSError, ssl.SSLError, BrokenTransfer):  # its worker was killed
            if gateway in clients:
                clients.pop(gateway).close()
        self.asked.append(asked)

    # -- What became of them --
    def arrivals(self):
        """By number: when the backend had it. Requests without one are not the crowd's."""
        had = [(request.target.partition("?number=")[2], request.at) for request in self.backend.requests]
        return {int(number): int(at * 10**9) for number, at in had if number}

    def admissions(self, caller, cost=lambda asked: 1):
        """(decided with Redis, {gateway: decided by it alone}). What was cut off is Redis' where nothing else was ever said."""
        arrived, shared, alone = self.arrivals(), [], {gateway: [] for gateway in self.gateways}
        for asked in self.asked:
            if asked.caller == caller and asked.number in arrived:
                admission = Admission(asked.sent, arrived[asked.number], cost(asked))
                (alone[asked.gateway] if asked.degraded else shared).append(admission)
        return shared, alone

    def statuses(self):
        return {status: sum(asked.status == status for asked in self.asked) for status in sorted({asked.status for asked in self.asked})}

    def no_errors(self):
        """Not one 5xx, whatever was done to Redis."""
        wrong = [asked.response for asked in self.asked if asked.status >= 500]
        assert not wrong, f"{len(wrong)} of {len(self.asked)}: {wrong[0]}"

    def fair(self, caller, allowance, rate=None, burst=None, seed=None):
        """The verdicts on one caller's admissions: all that Redis decided together, and what each gateway decided alone, at the rate and the
        burst of its share."""
        shared, alone = self.admissions(caller)
        verdict = judge(shared, allowance)
        assert verdict.fair, f"seed {seed}: {verdict} of {len(shared)}"
        for gateway, admissions in alone.items():
            if rate and admissions:
                one = judge(admissions, Allowance(-(-rate // len(self.gateways)), max(burst // len(self.gateways), 1)))
                assert one.fair, f"seed {seed}: {gateway.directory} alone: {one} of {len(admissions)}"
        return verdict, len(shared), {gateway.directory[-8:]: len(admissions) for gateway, admissions in alone.items() if admissions}


def sharing(url, gateways, limits, workers=2, deadline="1s", **more):
    """A configuration of one of several gateways on one Redis. Tests of exactness give a deadline that a busy machine keeps."""
    def change(config):
        config["workers"] = workers
        config["redis"] = {"url": url, "gateways": gateways, "deadline": deadline}
        config["limits"] = limits
        config["routes"][0]["limits"] = list(limits)
        config["logs"]["level"] = "info"
        config.update(more)
    return change


def all_up(gateways):
    for gateway in gateways:
        wait_until(lambda gateway=gateway: gateway.metric("sallyport_redis_up") >= 1, 20, "every worker reaches Redis")
