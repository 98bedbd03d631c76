"""Reload happens inside the living workers: nothing is lost, nothing jumps, a broken file changes nothing."""
import contextlib
import errno
import grp
import os
import re
import shutil
import signal
import subprocess
import threading

import backend as behave
import harness
import pytest
from harness import CHAT, Client, command, free_port, join, make_certificate, make_key, program, start_time, wait_until
from test_limits import limited, one_limit


class Load:
    """Keep-alive POSTs without any retry; counts what was lost and which connections were closed."""

    def __init__(self, gateway, key, clients=8):
        self.gateway, self.key, self.clients = gateway, key, clients
        self.answered, self.problems = 0, []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self):
        try:
            with self.gateway.client() as client:
                while not self.over.is_set():
                    response = client.request("POST", "/v1/chat/completions", key=self.key, body=CHAT)
                    with self.lock:
                        self.answered += 1
                        if response.status != 200 or response.header("connection") == "close":
                            self.problems.append(repr(response))
        except Exception as problem:  # whatever it was, a request was lost
            with self.lock:
                self.problems.append(repr(problem))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.answered >= self.clients or self.problems, 10, "load runs")
        return self

    def __exit__(self, *_):
        self.over.set()
        join(self.threads)


def test_thirty_reloads_under_keep_alive_posts_lose_nothing(start, keys):
    def change(config):
        one_limit(**limited("100000/s", 100000))(config)
        config["workers"] = 2
    gateway = start.gateway(change=change)
    workers = sorted(gateway.workers())
    with Load(gateway, keys["user"]) as load:
        for number in range(1, 31):
            gateway.config["limits"]["per-caller"]["request_burst"] = 100000 + number
            before = load.answered
            done = gateway.reload()
            assert done.returncode == 0, done.stderr
            wait_until(lambda: load.answered > before + load.clients or load.problems, 10, "requests under the new configuration")
    assert load.problems == []
    assert load.answered > 30 * load.clients
    assert sorted(gateway.workers()) == workers, "the same processes"
    last = gateway.ask("GET", "/v1/models", key=keys["second"])
    assert last.header("x-ratelimit-limit-requests") == "100030", "the last limit is in force"


def test_hup_reloads_too(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 10)))
    gateway.config["limits"]["per-caller"]["request_burst"] = 77
    gateway.write()
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: gateway.ask(key=key).header("x-ratelimit-limit-requests") == "77", 5, "the new limit")


def test_a_reload_with_a_broken_file_changes_nothing(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 10)))
    with gateway.client() as client:
        assert client.request(key=key).header("x-ratelimit-remaining-requests") == "9"
        gateway.write("version: 1\nlisteners:\n  - adress: 127.0.0.1:1\nworkers: [\n")
        refused = gateway.ctl("reload")
        assert refused.returncode == 1
        assert "sallyport.yaml:" in refused.stderr + refused.stdout
        assert client.request(key=key).header("x-ratelimit-remaining-requests") == "8", "the same connection, the same bucket"
    gateway.write()
    assert gateway.ctl("reload").returncode == 0, "and a good one is taken afterwards"


def test_a_reload_names_the_line_and_the_nearest_key(start, key):
    gateway = start.gateway()
    gateway.config["routes"][0]["metods"] = ["GET"]
    refused = gateway.reload()
    text = refused.stderr + refused.stdout
    assert refused.returncode == 1 and "metods" in text and "methods" in text
    del gateway.config["routes"][0]["metods"]
    assert gateway.ask(key=key).status == 200


def test_a_certificate_that_does_not_fit_its_key_is_refused_and_the_old_one_serves_on(start, key):
    gateway = start.gateway()
    chain, private = make_certificate(gateway.directory, stem="other")
    gateway.config["listeners"][0]["certificates"] = [{"chain": "server.pem", "key": "other.key"}]
    assert gateway.reload().returncode == 1
    assert gateway.ask(key=key).status == 200


def test_a_new_certificate_is_served_and_old_connections_live_on(start, key):
    gateway = start.gateway()
    old_ca = gateway.cafile
    with gateway.client() as kept:
        assert kept.request(key=key).status == 200
        make_certificate(gateway.directory, stem="renewed")
        gateway.config["listeners"][0]["certificates"] = [{"chain": "renewed.pem", "key": "renewed.key"}]
        assert gateway.reload().returncode == 0
        with Client(gateway.port, gateway.cafile) as fresh:
            assert fresh.request(key=key).status == 200
        assert gateway.cafile != old_ca
        assert kept.request(key=key).status == 200


def test_growth_of_a_limit_gives_no_gift_and_shrinking_takes_no_more_than_it_must(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 10)))
    with gateway.client() as client:
        for _ in range(4):
            client.request(key=key)
        for burst, expected in ((100, 5), (3, 2), (50, 1)):
            gateway.config["limits"]["per-caller"]["request_burst"] = burst
            assert gateway.reload().returncode == 0
            assert client.request(key=key).header("x-ratelimit-remaining-requests") == str(expected)


def test_keys_appear_and_disappear_with_a_reload(start, key):
    gateway = start.gateway()
    secret = make_key(gateway.directory + "/keys.yaml", "late")
    with gateway.client() as client:
        assert client.request(key=secret).status == 401
        assert gateway.ctl("reload").returncode == 0
        assert client.request(key=secret).status == 200
        revoked = command("key", "revoke", "--file", gateway.directory + "/keys.yaml", secret[3:11])
        assert revoked.returncode == 0, revoked.stderr
        assert gateway.ctl("reload").returncode == 0
        assert client.request(key=secret).status == 401


def test_an_exchange_keeps_the_snapshot_it_began_with(start, key):
    backend, other = start.backend(), start.backend()
    gateway = start.gateway(backend)
    held = behave.Held()
    held.put("data: 1\n\n")
    backend.on("/v1/held", held)
    with gateway.client() as client:
        client.send_request("GET", "/v1/held", key=key)
        client.read_head()
        assert client.read_chunk() == b"data: 1\n\n"
        gateway.config["pools"]["main"]["servers"] = [{"url": other.url}]
        gateway.config["routes"] = gateway.config["routes"][:1]
        assert gateway.reload().returncode == 0
        held.put("data: 2\n\n")
        assert client.read_chunk() == b"data: 2\n\n"
        held.put(None)
        assert client.read_chunk() == b""
        assert client.request("GET", "/v1/echo", key=key).status == 200
        assert len(other.requests) == 1


def test_listeners_come_and_go_with_a_reload(start, key):
    gateway = start.gateway()
    more = free_port()
    gateway.config["listeners"].append({**gateway.config["listeners"][0], "address": f"127.0.0.1:{more}"})
    assert gateway.reload().returncode == 0
    with Client(more, gateway.cafile) as client:
        assert client.request(key=key).status == 200
    gateway.config["listeners"].pop()
    assert gateway.reload().returncode == 0

    def refused():
        try:
            Client(more, gateway.cafile).close()
        except OSError:
            return True
        return False
    wait_until(refused, 5, "the port is closed")
    assert gateway.ask(key=key).status == 200


def test_the_number_of_workers_follows_a_reload(start, key):
    gateway = start.gateway()
    with gateway.client() as client:
        assert client.request(key=key).status == 200
        gateway.config["workers"] = 3
        assert gateway.reload().returncode == 0
        wait_until(lambda: len(gateway.workers()) == 3, 5, "three workers")
        assert client.request(key=key).status == 200


# ---- A port in use now ----

def test_localhost_and_its_number_are_one_address(start, key):
    gateway = start.gateway()
    with gateway.client() as kept:
        for host in ("localhost", "127.0.0.1", "[::ffff:127.0.0.1]"):
            gateway.config["listeners"][0]["address"] = f"{host}:{gateway.port}"
            gateway.config["admin"]["metrics"] = f"{'127.0.0.1' if host[0] == '[' else host}:{gateway.metrics_port}"
            done = gateway.reload()
            assert done.returncode == 0, done.stderr
            assert kept.request(key=key).status == 200
            wait_until(lambda: gateway.ask(key=key).status == 200, 5, "a new connection")
            assert gateway.is_ready()


def test_a_gateway_starts_on_localhost(start, key):
    def change(config):
        config["listeners"][0]["address"] = f"localhost:{free_port()}"
        config["admin"]["metrics"] = f"localhost:{free_port()}"
    assert start.gateway(change=change).ask(key=key).status == 200


@pytest.mark.parametrize("before, after", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_a_port_that_our_own_listener_has_is_not_blamed_on_others(start, key, before, after):
    port = free_port()

    def change(config):
        config["listeners"][0]["address"] = f"{before}:{port}"
    gateway = start.gateway(change=change)
    gateway.config["listeners"][0]["address"] = f"{after}:{port}"
    refused = gateway.reload()
    assert refused.returncode == 1
    assert f"{after}:{port}" in refused.stderr and f"this gateway's own listener on {before}:{port} has this port" in refused.stderr
    assert "restart" in refused.stderr and "another program" not in refused.stderr
    assert gateway.ask(key=key).status == 200
    for address in (f"127.0.0.1:{free_port()}", f"{after}:{port}"):  # what the sentence advises
        gateway.config["listeners"][0]["address"] = address
        wait_until(lambda: gateway.reload().returncode == 0, 5, f"{address} is listened on")
    assert gateway.ask(key=key).status == 200


def test_a_port_that_our_own_metrics_have_is_not_blamed_on_others(start):
    gateway = start.gateway()
    gateway.config["listeners"][0]["address"] = gateway.config["admin"]["metrics"]
    del gateway.config["admin"]["metrics"]
    refused = gateway.reload()
    assert refused.returncode == 1 and "this gateway's own admin.metrics on 127.0.0.1:" in refused.stderr


def test_a_port_that_another_program_has_is_not_taken_for_our_own(start):
    other = start.gateway()
    gateway = start.gateway()
    gateway.config["listeners"][0]["address"] = other.config["listeners"][0]["address"]
    refused = gateway.reload()
    assert refused.returncode == 1 and "another program" in refused.stderr and "own" not in refused.stderr
    gateway.config["listeners"][0]["address"] = f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
def test_two_listeners_that_want_the_same_port_are_both_named(start, key, host):
    gateway = start.gateway()
    gateway.config["listeners"].append({**gateway.config["listeners"][0], "address": f"{host}:{gateway.port}"})
    refused = gateway.reload()
    assert refused.returncode == 1 and f"{host}:{gateway.port}" in refused.stderr and f"127.0.0.1:{gateway.port}" in refused.stderr
    assert "own" not in refused.stderr, "no restart would help"
    assert gateway.ask(key=key).status == 200


# ---- Who may use the admin socket ----

def status_as(gateway, group):
    """`sallyport ctl status` as somebody of this group alone."""
    return subprocess.run(["setpriv", "--reuid=1", f"--regid={grp.getgrnam(group).gr_gid}", "--clear-groups", program(), "ctl", "status", "--socket",
                           gateway.directory + "/admin.sock"], capture_output=True, text=True, timeout=20)


def reload_groups(gateway, groups):
    gateway.config["admin"]["groups"] = groups
    done = gateway.reload()
    assert done.returncode == 0, done.stderr


def shut_out(gateway, group):
    """Not even the socket opens; what control would say to who comes in is another matter."""
    shown = status_as(gateway, group)
    return shown.returncode != 0 and os.strerror(errno.EACCES) in shown.stderr


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")


@as_root
def test_the_groups_of_a_reload_are_let_in_and_no_others(start):
    gateway = start.gateway()
    os.chmod(gateway.directory, 0o755)
    assert shut_out(gateway, "games") and shut_out(gateway, "news")
    reload_groups(gateway, {"games": "viewer", "news": "admin"})
    for group in ("games", "news"):
        wait_until(lambda: status_as(gateway, group).returncode == 0, 5, f"{group} are let in")
    reload_groups(gateway, {"news": "admin"})
    assert status_as(gateway, "news").returncode == 0
    assert shut_out(gateway, "games")
    reload_groups(gateway, {})
    assert shut_out(gateway, "news")
    assert os.stat(gateway.directory + "/admin.sock").st_mode & 0o777 == 0o660


@as_root
def test_a_reload_that_is_refused_lets_nobody_in(start):
    gateway = start.gateway()
    os.chmod(gateway.directory, 0o755)
    make_certificate(gateway.directory, stem="other")
    gateway.config["listeners"][0]["certificates"] = [{"chain": "server.pem", "key": "other.key"}]  # which the workers find
    gateway.config["admin"]["groups"] = {"games": "viewer"}
    assert gateway.reload().returncode == 1
    assert shut_out(gateway, "games")


@as_root
def test_as_many_groups_as_may_be_configured_are_let_in(start):
    gateway = start.gateway()
    os.chmod(gateway.directory, 0o755)
    names = sorted((entry.gr_name for entry in grp.getgrall() if entry.gr_gid != 0), key=lambda name: grp.getgrnam(name).gr_gid)[:64]
    assert len(names) > 32
    reload_groups(gateway, {name: "viewer" for name in names})
    for name in (names[0], names[-1]):
        wait_until(lambda: status_as(gateway, name).returncode == 0, 5, f"{name} are let in")




@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def end(pid):
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: start_time(pid) is None, 5, "it has ended")


def is_in_force(gateway, generation):
    return f"reloaded: generation {generation} is in force" in gateway.errors()


def test_a_worker_that_begins_during_a_vote_gets_the_new_configuration_too(start, key):
    def change(config):
        one_limit(**limited("1/h", 10))(config)
        config["workers"] = 2

    gateway = start.gateway(change=change)
    slow, killed = gateway.workers()
    gateway.config["limits"]["per-caller"]["request_burst"] = 77
    gateway.write()
    with stopped(slow):
        gateway.signal(signal.SIGHUP)
        end(killed)
        wait_until(lambda: re.search(r"worker \d+: starting → serving", gateway.errors()), 5, "the killed one has a successor")
        assert not is_in_force(gateway, 2), "while the other still has to vote"
    wait_until(lambda: is_in_force(gateway, 2), 5, "the vote has ended")
    end(slow)  # who answers now is the successor, or one that began after the vote
    assert all(gateway.ask(key=key).header("x-ratelimit-limit-requests") == "77" for _ in range(5))


def test_control_that_begins_during_a_vote_gets_the_new_configuration_too(start):
    gateway = start.gateway()
    worker, control = gateway.workers()[0], gateway.pids("control")[0]
    more = start.backend().url
    gateway.config["pools"]["main"]["servers"].append({"url": more})
    gateway.write()
    with stopped(worker):
        gateway.signal(signal.SIGHUP)
        end(control)
        old = gateway.config["pools"]["main"]["servers"][0]["url"]
        wait_until(lambda: old in gateway.ctl("backends").stdout, 5, "the new control has a configuration")
        assert more not in gateway.ctl("backends").stdout
    wait_until(lambda: is_in_force(gateway, 2), 5, "the vote has ended")
    wait_until(lambda: more in gateway.ctl("backends").stdout, 5, "the new control has the new configuration")


@pytest.mark.slow
def test_a_worker_that_has_finished_leaves_its_place_to_one_that_is_missing(start, key):
    """There are 64 places, and who finishes an answer keeps one although it no longer counts among the workers."""
    held = behave.Held()
    held.put("data: 1\n\n")
    backend = start.backend()
    backend.on("/v1/held", held)
    gateway = start.gateway(backend, change=lambda config: config.update(workers=64, drain_timeout="2m"))
    stays = gateway.workers()[0]
    with stopped(stays), gateway.client() as client:
        client.send_request("GET", "/v1/held", key=key)
        client.read_head()
        assert client.read_chunk() == b"data: 1\n\n"
        os.kill(stays, signal.SIGCONT)
        gateway.config["workers"] = 1
        assert gateway.reload().returncode == 0
        wait_until(lambda: len(gateway.workers()) == 2, 15, "only who holds the stream is left of the others")
        finishes = next(pid for pid in gateway.workers() if pid != stays)
        gateway.config["workers"] = 64
        assert gateway.reload().returncode == 0
        wait_until(lambda: len(gateway.workers()) == 64, 15, "every place is taken")
        held.put(None)
        assert client.read_chunk() == b""
    wait_until(lambda: finishes not in gateway.workers() and len(gateway.workers()) == 64, 15, "64 that serve")


def asked(gateway):
    """Asks for a reload and does not wait for the answer, which is what it gives."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(gateway.reload()))
    thread.start()
    wait_until(lambda: "reload asked for" in gateway.errors(), 5, "control has been asked")

    def wait():
        join([thread])
        return answer[0]
    return wait


def test_a_reload_while_no_worker_serves_waits_for_one(start, key):
    gateway = start.gateway(change=one_limit(**limited("1/h", 10)))
    gateway.config["limits"]["per-caller"]["request_burst"] = 77
    with stopped(gateway.process.pid):
        end(gateway.workers()[0])
        answer = asked(gateway)
    done = answer()
    assert done.returncode == 0 and "generation 2 is in force" in done.stdout, done
    assert gateway.ask(key=key).header("x-ratelimit-limit-requests") == "77"


@pytest.mark.slow
def test_a_reload_that_no_worker_comes_for_is_refused_and_says_so(start, key, monkeypatch):
    programs = start.directory()
    programs.chmod(0o755)
    for name in ("sallyport", "sallyport-supervisor", "sallyport-worker", "sallyport-control"):
        shutil.copy(program(name), programs)
    monkeypatch.setattr(harness, "program", lambda name="sallyport": str(programs / name))
    gateway = start.gateway()
    (programs / "sallyport-worker").rename(programs / "gone")
    end(gateway.workers()[0])
    refused = gateway.reload()
    assert refused.returncode == 1 and "no worker is serving" in refused.stderr + refused.stdout, refused
    (programs / "gone").rename(programs / "sallyport-worker")
    assert gateway.ask(key=key).status == 200
    assert gateway.ctl("reload").returncode == 0, "and a reload is taken again"
