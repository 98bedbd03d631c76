"""The works of the full run. Each starts who takes part, measures in turns, takes down what it started, and hands back rows."""
import json
import time
import urllib.request

import peers
from report import Row
from rig import LARGE, SMALL, Failed, Load

TOKENS = 4000  # in one round, each seen once
IDLE = 2000
STREAMS, EVENTS = 1000, 50
STORM = 5000
PIECES = 20  # that all callers come in


def cpu(running, load):
    """CPU per answered request of these peers' processes, in one run."""
    before = sum(peer.cpu_seconds() for peer in running)
    result = load.run()
    return {"cpu_us": (sum(peer.cpu_seconds() for peer in running) - before) * 1e6 / max(1, result["answered"])}, result


def policy(rig, backend_port, mode="leased", name=None, headers=None, change=None, workers=1):
    def whole(config, home):
        peers.whole_policy(mode, rig.redis)(config, home)
        if change:
            change(config)
    peer = peers.sallyport_peer(rig.directory, backend_port, name or f"whole policy {mode}", headers=headers or rig.bearer_token, policy=whole, workers=workers)
    peer.redis = rig.redis
    return peer


def plain_ones(rig, backend_port, access=""):
    yield peers.floor_peer(rig.directory, backend_port)
    yield peers.haproxy_peer(rig.directory, backend_port)
    yield peers.nginx_peer(rig.directory, backend_port, access=access)
    yield peers.sallyport_peer(rig.directory, backend_port, "sallyport")


def in_turns(rig, work, makers, measure, rounds=None, ready=True):
    """Rows of one work: `measure(peer, round)` for each peer in each round."""
    running = [rig.add(peer, ready) for peer in makers]
    rows = [Row(work, peer.name, void=peer.void) for peer in running]
    for number in range(rounds or rig.options.rounds):
        for peer, row in zip(running, rows):
            row.attempt(lambda: measure(peer, number))
    rig.remove(*running)
    return rows


# ---- Requests ----

def large_prompt(rig):
    source = rig.start_source()

    def first_byte():
        with urllib.request.urlopen(f"http://127.0.0.1:{source}/report", timeout=10) as answer:
            return json.load(answer)

    def measure(peer, _):
        with Load(rig, peer.port, "--connections", 8, "--seconds", rig.options.seconds, headers=peer.headers, body=LARGE) as load:
            found, result = cpu([peer], load)
        first_byte()
        with Load(rig, peer.port, "--connections", 1, "--rate", 100, "--seconds", rig.options.seconds, "--stamp", headers=peer.headers, body=LARGE) as load:
            load.run()
        passed = first_byte()
        if not passed["count"]:
            raise Failed("the time it was sent at did not get through")
        return {**found, "requests_per_second": result["answered"] / result["seconds"], "first_byte_p50_us": passed["p50_us"], "first_byte_p99_us": passed["p99_us"]}
    makers = [*plain_ones(rig, source), peers.haproxy_model_peer(rig.directory, source), policy(rig, source)]
    return in_turns(rig, "prompt of 214 KB", makers, measure)


def new_connections(rig):
    rows = []
    for work, more in (("new connection", []), ("resumed connection", ["--resume"])):
        def measure(peer, _):
            with Load(rig, peer.port, "--connections", 8, "--seconds", rig.options.seconds, "--new", *more, headers=peer.headers) as load:
                if more:
                    load.run()  # everybody gets a session to continue
                found, result = cpu([peer], load)
            if more and result["resumed"] < 0.9 * result["answered"]:
                raise Failed(f"only {result['resumed']} of {result['answered']} were resumed")
            return {**found, "resumed": result["resumed"] / result["answered"]}
        rows += in_turns(rig, work, plain_ones(rig, rig.backend_port), measure)
    return rows


def new_tokens(rig):
    rows = []
    for algorithm in ("RS256", "ES256"):
        files = []
        for number in range(rig.options.rounds):
            files.append(rig.directory / f"tokens-{algorithm}-{number}")
            files[-1].write_text("".join(rig.token(algorithm, jti=f"{algorithm}-{number}-{i}") + "\n" for i in range(TOKENS)))

        def measure(peer, number):
            with Load(rig, peer.port, "--connections", 32, "--seconds", 60, "--tokens", files[number]) as load:
                return cpu([peer], load)[0]
        makers = [peers.haproxy_jwt_peer(rig.directory, rig.backend_port, rig.bearer_token),
                  peers.sallyport_peer(rig.directory, rig.backend_port, "sallyport + JWT", "jwt", rig.bearer_token), policy(rig, rig.backend_port)]
        rows += in_turns(rig, f"new token {algorithm}", makers, measure)
    return rows


# ---- Streams and memory ----



def streams(rig):
    """Delay is from the backend's write to the client's read. Added is what is more than in the same round without a gateway and without TLS."""
    source = rig.start_source(EVENTS)
    memory, bare = [], {}

    def measure(peer, number):
        if peer.name == "no gateway":
            with Load(rig, peer.port, "--connections", STREAMS, "--at-once", 100, "--streams", "--plain", body=SMALL) as load:
                load.begin()
                load.finish()
                time.sleep(0.5)
                bare[number] = delays(load, rig.options.seconds)
            return {"delay_p50_us": bare[number]["p50_us"], "delay_p99_us": bare[number]["p99_us"]}
        small = peer.memory()
        with Load(rig, peer.port, "--connections", STREAMS, "--at-once", 100, "--streams", headers=peer.headers, body=SMALL) as load:
            load.begin()
            load.finish()
            time.sleep(0.5)
            before = peer.cpu_seconds()
            result = delays(load, rig.options.seconds)
            spent, grown = peer.cpu_seconds() - before, peer.memory() - small
        wanted = STREAMS * EVENTS * result["seconds"]
        if result["events"] < 0.9 * wanted:
            raise Failed(f"{result['events']} events came, {wanted:.0f} were due")
        if number == 0:  # later rounds find memory that the first one has left
            memory.append((peer.name, {"kib": grown / 1024 / STREAMS}))
        return {"cpu_us": spent * 1e6 / result["events"], "delay_p50_us": result["p50_us"], "delay_p99_us": result["p99_us"],
                "added_p99_us": result["p99_us"] - bare[number]["p99_us"]}
    makers = [peers.Peer("no gateway", source, lambda: [], lambda: None), *plain_ones(rig, source, access="proxy_buffering off;"), policy(rig, source)]
    rows = in_turns(rig, "streams", makers, measure, ready=False)
    for name, found in memory:
        rows.append(Row("open streams", name))
        rows[-1].attempt(lambda: found)
    return rows


def delays(load, seconds):
    time.sleep(seconds)
    load.begin()
    return load.finish()


def idle_connections(rig):
    """Each connection has had one request answered and stands."""
    def measure(peer, _):
        small = peer.memory()
        with Load(rig, peer.port, "--connections", IDLE, "--rate", IDLE, "--requests", IDLE, "--seconds", 30, headers=peer.headers) as load:
            load.run()
            time.sleep(1)
            return {"kib": (peer.memory() - small) / 1024 / IDLE}
    return in_turns(rig, "idle connections", [*plain_ones(rig, rig.backend_port), policy(rig, rig.backend_port)], measure, rounds=1)


# ---- Growth ----

def grown(rig, small, large):
    """One round: the ratio of two measurements of the same, made one after the other."""
    first, _ = small()
    second, _ = large()
    return {"cpu_us": second["cpu_us"], "cpu_ratio": second["cpu_us"] / first["cpu_us"]}


def growth_of_connections(rig):
    def at(peer, connections):
        with Load(rig, peer.port, "--connections", connections, "--rate", rig.options.rate, "--seconds", 2 * rig.options.seconds, headers=peer.headers) as load:
            found = cpu([peer], load)
            peer.held = peer.memory()
            return found

    def measure(peer, _):
        return {**grown(rig, lambda: at(peer, 10), lambda: at(peer, rig.options.crowd)), "mib": peer.held / 2**20}
    makers = [peers.haproxy_peer(rig.directory, rig.backend_port), peers.nginx_peer(rig.directory, rig.backend_port), policy(rig, rig.backend_port)]
    return in_turns(rig, "growth of connections", makers, measure)


def growth_of_callers(rig):
    """Two gateways of the same kind in turns, PIECES times: one that only ever sees 10 callers, and one that sees new ones with every request. Tokens
    are new ones with both. What counts is the second half, when half of all callers are known."""
    begins = json.dumps({"iss": "https://batch.tests.example", "aud": "inference", "roles": ["chat"], "iat": int(time.time()), "exp": int(time.time()) + 7200})[:-1] + ","
    requests = rig.options.callers // PIECES

    def load(peer, callers):
        return Load(rig, peer.port, "--connections", 32, "--seconds", 600, "--requests", requests, "--hs256", rig.directory / "batch.secret", "--claims", begins,
                    "--callers", callers)
    rows = []
    for name, mode, change in (("whole policy, this machine", "leased", lambda config: config.pop("redis")), ("whole policy strict", "strict", None)):
        few, many = (rig.add(policy(rig, rig.backend_port, mode, f"{name}, {which}", change=change)) for which in ("few", "many"))
        row = Row("growth of callers", name, void=few.void or many.void)
        with load(few, 10) as asks_few, load(many, rig.options.callers) as asks_many:
            for piece in range(PIECES):
                row.attempt(lambda: {**grown(rig, lambda: cpu([few], asks_few), lambda: cpu([many], asks_many)), "mib": many.memory() / 2**20}, keep=piece >= PIECES // 2)
        rig.remove(few, many)
        rows.append(row)
    return rows


def growth_of_workers(rig):
    """All on the one processor: what more processes cost, not what more processors bring."""
    running = [rig.add(policy(rig, rig.backend_port, name=f"{workers} workers", workers=workers)) for workers in (1, 2)]
    row = Row("growth of workers", "whole policy leased", void=running[0].void or running[1].void)

    def at(peer):
        with Load(rig, peer.port, "--connections", 32, "--seconds", rig.options.seconds, headers=peer.headers) as load:
            return cpu([peer], load)
    for _ in range(rig.options.rounds):
        row.attempt(lambda: grown(rig, lambda: at(running[0]), lambda: at(running[1])))
    rig.remove(*running)
    return [row]


def growth_of_gateways(rig):
    """One gateway with all the requests, then four that share them and one Redis."""
    rows = []
    for mode in ("leased", "strict"):
        running = [rig.add(policy(rig, rig.backend_port, mode, f"{mode} gateway {i}")) for i in range(4)]
        row = Row("growth of gateways", f"whole policy {mode}", void=next((peer.void for peer in running if peer.void), None))

        def at(some):
            loads = [Load(rig, peer.port, "--connections", 32 // len(some), "--seconds", rig.options.seconds, headers=peer.headers)
                     for peer in some]
            try:
                before = sum(peer.cpu_seconds() for peer in some)
                for load in loads:
                    load.begin()
                results = [load.finish() for load in loads]
                if any(result["refused"] or result["broken"] or result["unanswered"] for result in results):
                    raise Failed(f"under load: {results}")
                spent = sum(peer.cpu_seconds() for peer in some) - before
                return {"cpu_us": spent * 1e6 / sum(result["answered"] for result in results)}, results
            finally:
                for load in loads:
                    load.close()
        for _ in range(rig.options.rounds):
            row.attempt(lambda: grown(rig, lambda: at(running[:1]), lambda: at(running)))
        rig.remove(*running)
        rows.append(row)
    return rows


def storm(rig):
    """The same callers at a fixed rate on connections they have: in quiet, and while 5,000 others connect at once. The storm's client yields to the
    honest one, so that what is seen is the gateway's doing."""
    def measure(peer, _):
        rate = rig.options.rate // 4
        with Load(rig, peer.port, "--connections", 16, "--rate", rate, "--seconds", 3, headers=peer.headers, nice=-10) as load:
            quiet = load.run()
            load.begin()
            began = time.monotonic()
            with Load(rig, peer.port, "--connections", STORM, "--at-once", STORM, "--addresses", 250, "--silent", nice=19):
                lasted = time.monotonic() - began
                stormy = load.finish()
        if stormy["refused"] or stormy["broken"] or stormy["unanswered"]:
            raise Failed(f"honest requests suffered: {stormy}")
        return {"quiet_p99_us": quiet["p99_us"], "storm_p99_us": stormy["p99_us"], "storm_seconds": lasted, "slower": stormy["p99_us"] / quiet["p99_us"]}
    return in_turns(rig, "storm", plain_ones(rig, rig.backend_port), measure)


ALL = {work.__name__: work for work in (large_prompt, new_connections, new_tokens, streams, idle_connections, growth_of_connections, growth_of_callers,
                                        growth_of_workers, growth_of_gateways, storm)}
