"""Processes die, are replaced, drain and end."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import backend as behave
import pytest
import test_proxy_protocol as balancer
from harness import SLOWER, BrokenTransfer, Client, join, process_name, program, put_down, start_time, wait_until
from test_limits import limited, one_limit
from test_reload import end


def two_workers(config):
    config["workers"] = 2


def sockets_of_the_other_side(client):
    """What the gateway's end of this connection is called in /proc/PID/fd."""
    port = client.sock.getsockname()[1]
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return {f"socket:[{fields[9]}]" for fields in lines if int(fields[2].split(":")[1], 16) == port}


def holder(gateway, client):
    """The worker that has this connection."""
    wanted = sockets_of_the_other_side(client)
    for pid in gateway.workers():
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in wanted:
                    return pid
            except OSError:
                pass
    return None


def test_each_role_is_a_process_with_its_name(start):
    gateway = start.gateway(change=two_workers)
    assert process_name(gateway.process.pid) == "sallyport-supervisor"
    names = sorted(process_name(pid) for pid in gateway.seen)
    assert names == ["sallyport-control", "sallyport-worker", "sallyport-worker"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_the_supervisor_stays_root(start):
    gateway = start.gateway()
    for pid in gateway.seen:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split(), process_name(pid)
        assert status["Groups"].strip() in ("", "65534"), "no supplementary group is left"


def connections_of_both(gateway, key):
    """Connections by worker, opened at once, for an idle worker takes what it can; until both have some."""
    opened = []
    for _ in range(10):
        threads = [threading.Thread(target=lambda: opened.append(gateway.client())) for _ in range(24)]
        for thread in threads:
            thread.start()
        join(threads)
        clients = {}
        for client in opened:
            assert client.request(key=key).status == 200
            clients.setdefault(holder(gateway, client), []).append(client)
        if len(clients) == 2:
            return clients, opened
    pytest.fail("one worker took every connection")


@pytest.mark.skipif(os.geteuid() != 0, reason="which worker holds a connection only root can see")
def test_a_killed_worker_is_back_and_the_others_requests_untouched(start, key, record_property):
    def change(config):
        one_limit(**limited("1/h", 1000))(config)
        two_workers(config)
    gateway = start.gateway(change=change)
    clients, opened = connections_of_both(gateway, key)
    victim, other = list(clients)
    level = int(gateway.ask(key=key).header("x-ratelimit-remaining-requests"))
    survivor = clients[other][0]
    asked = threading.Event()
    problems = []

    def go_on():
        for _ in range(200):
            try:
                if survivor.request(key=key).status != 200:
                    problems.append("status")
            except Exception as problem:
                problems.append(repr(problem))
                return
            asked.set()
    thread = threading.Thread(target=go_on)
    thread.start()
    asked.wait(5)
    before = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len([pid for pid in gateway.workers() if pid != victim]) == 2 and gateway.is_ready(), 5, "a new worker")
    back = time.monotonic() - before
    record_property("worker_back_after_ms", round(back * 1000, 1))
    join([thread])
    assert back < 1, f"{back:.2f} s"
    assert problems == []
    assert int(gateway.ask(key=key).header("x-ratelimit-remaining-requests")) == level - 201, "the level is as it was"
    for client in opened:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="which worker holds a connection only root can see")
def test_what_a_worker_told_ends_with_it(start, key):
    backend = start.backend()

    def change(config):
        two_workers(config)
        config["pools"]["main"]["health"] = {"path": "/health", "interval": "100ms", "timeout": "2s", "healthy_after": 1, "unhealthy_after": 2}
    gateway = start.gateway(backend, change=change)
    clients, opened = connections_of_both(gateway, key)
    wait_until(lambda: gateway.metric("sallyport_connections") == len(opened), 10, "both have told their connections")
    asked = gateway.metric("sallyport_requests_total")
    gateway.config["workers"] = 1
    assert gateway.reload().returncode == 0
    left = wait_until(lambda: len(gateway.workers()) == 1 and gateway.workers(), 10, "one worker has ended")[0]
    wait_until(lambda: gateway.metric("sallyport_connections") == len(clients[left]), 10, "only what is open is told")
    assert gateway.metric("sallyport_requests_total") == asked, "what was counted stays"
    assert gateway.metric("sallyport_backend_up", server=backend.url) == 1
    backend.on("/health", behave.fixed(500))
    wait_until(lambda: gateway.metric("sallyport_backend_up", server=backend.url) == 0, 10, "the one worker says it is down")
    for client in opened:
        client.close()


def test_a_killed_control_leaves_the_workers_serving(start, key):
    gateway = start.gateway()
    with gateway.client() as client:
        assert client.request(key=key).status == 200
        control = gateway.pids("control")[0]
        os.kill(control, signal.SIGKILL)
        assert client.request(key=key).status == 200
        wait_until(lambda: [pid for pid in gateway.pids("control") if pid != control] and gateway.is_ready(), 5, "control is back")
        assert client.request(key=key).status == 200
        assert gateway.ctl("status").returncode == 0


def test_a_stopped_control_does_not_hold_up_requests(start, key):
    gateway = start.gateway()
    control = gateway.pids("control")[0]
    os.kill(control, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert gateway.ask(key=key).status == 200
    finally:
        os.kill(control, signal.SIGCONT)


def test_a_log_level_that_was_set_holds_for_successors_until_the_next_reload(start):
    def change(config):
        balancer.configure(config)
        config["logs"]["level"] = "error"

    def logged(pid, words):
        lines = map(json.loads, filter(lambda line: line.startswith("{"), gateway.errors().splitlines()))
        return [line for line in lines if line["pid"] == pid and words in line["message"]]
    gateway = start.gateway(change=change)
    assert gateway.ctl("loglevel", "info").returncode == 0
    end(gateway.workers()[0])
    assert balancer.is_refused(gateway, b"not what a balancer says"), "the successor serves"
    wait_until(lambda: logged(gateway.workers()[0], "trusted proxy"), 5, "a worker's line of that level")
    end(gateway.pids("control")[0])
    wait_until(gateway.is_ready, 5, "control is back")
    for what in ("set by hand", "the configuration's again"):
        assert gateway.ctl("reload").returncode == 0
        assert len(logged(gateway.pids("control")[0], "reload asked for")) == 1, what


def test_a_killed_supervisor_leaves_no_process(start, key):
    gateway = start.gateway(change=two_workers)
    gateway.remember()
    put_down(gateway.process)
    wait_until(lambda: not any(start_time(pid) == started for pid, started in gateway.seen.items()), 5, "its children end")
    gateway.check_remains()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_drains_a_stream_in_flight_and_exits_0(start, key, number):
    backend = start.backend()
    held = behave.Held()
    held.put("data: 1\n\n")
    backend.on("/v1/held", held)
    gateway = start.gateway(backend)
    with gateway.client() as client:
        client.send_request("GET", "/v1/held", key=key)
        client.read_head()
        assert client.read_chunk() == b"data: 1\n\n"
        gateway.signal(number)

        def closed():
            try:
                gateway.client(timeout=2).close()
            except OSError:
                return True
            return False
        wait_until(closed, 5, "no new connection is accepted")
        held.put("data: 2\n\n")
        assert client.read_chunk() == b"data: 2\n\n"
        held.put(None)
        assert client.read_chunk() == b""
    assert gateway.ended(10) == 0
    gateway.check_remains()


def test_draining_is_told_to_the_load_balancer(start, key):
    backend = start.backend()
    backend.on("/v1/never", behave.never_answers)
    gateway = start.gateway(backend)
    with gateway.client() as client:
        client.send_request("GET", "/v1/never", key=key)
        assert backend.wait_for(lambda b: b.requests)
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: gateway.admin("/readyz")[0] == 503, 5, "/readyz says 503")
        assert gateway.admin("/healthz")[0] == 200
        gateway.signal(signal.SIGTERM)
        gateway.ended(5)
    gateway.check_remains()


def test_an_idle_gateway_drains_at_once(start, key):
    gateway = start.gateway()
    with gateway.client() as client:
        assert client.request(key=key).status == 200
        gateway.signal(signal.SIGTERM)
        assert gateway.ended(5) == 0, "an idle kept connection is no reason to stay"
        assert client.at_end() == "clean"
    gateway.check_remains()


def test_a_second_term_ends_at_once(start, key):
    backend = start.backend()
    backend.on("/v1/never", behave.never_answers)
    gateway = start.gateway(backend, change=lambda config: config.update(drain_timeout="10m"))
    with gateway.client() as client:
        client.send_request("GET", "/v1/never", key=key)
        assert backend.wait_for(lambda b: b.requests)
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: gateway.admin("/readyz")[0] != 200, 5, "it drains")
        gateway.signal(signal.SIGTERM)
        gateway.ended(5)
        with pytest.raises((BrokenTransfer, OSError)):
            client.read_response()
    gateway.check_remains()


def test_the_drain_ends_when_its_time_is_up(start, key):
    backend = start.backend()
    backend.on("/v1/never", behave.never_answers)
    gateway = start.gateway(backend, change=lambda config: config.update(drain_timeout="500ms"))
    with gateway.client() as client:
        client.send_request("GET", "/v1/never", key=key)
        assert backend.wait_for(lambda b: b.requests)
        gateway.signal(signal.SIGTERM)
        gateway.ended(8)
    gateway.check_remains()


def test_a_worker_that_dies_at_once_is_not_restarted_in_a_tight_loop(start, key):
    gateway = start.gateway()
    killed = []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for pid in gateway.workers():
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        time.sleep(0.005)
    assert 2 <= len(killed) <= 40, f"{len(killed)} restarts in two seconds"

    def serves():
        try:
            return gateway.ask(key=key).status == 200
        except (OSError, BrokenTransfer):
            return False
    wait_until(serves, 15, "it serves again")


def test_systemd_is_told_ready_reloading_and_stopping(start, tmp_path, key):
    path = str(tmp_path / "notify")
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(path)
    notified.settimeout(10)
    os.chmod(path, 0o777)
    os.chmod(tmp_path, 0o755)
    gateway = start.gateway(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
    heard = ""

    def hear(word):
        nonlocal heard
        until = time.monotonic() + 20 * SLOWER  # the watchdog's messages never end
        while word not in heard:
            assert time.monotonic() < until, f"{word} is not said: {heard}"
            heard += notified.recv(4096).decode() + "\n"
        heard = heard.split(word, 1)[1]
    hear("READY=1")
    hear("WATCHDOG=1")
    gateway.signal(signal.SIGHUP)
    hear("RELOADING=1")
    hear("READY=1")
    gateway.signal(signal.SIGTERM)
    hear("STOPPING=1")
    assert gateway.ended(10) == 0
    gateway.check_remains()
    notified.close()


def test_a_socket_handed_over_by_systemd_is_used(start, key):
    """The protocol of sd_listen_fds(3): descriptors from 3 on, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    gateway = start.gateway(start=False, change=lambda config: config["listeners"][0].update(address="systemd:public"))
    script = 'exec 3<&"$1"; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public; exec "$2" run --config "$3"'
    gateway.stdout = open(gateway.directory + "/stdout", "ab")
    gateway.stderr = open(gateway.directory + "/stderr", "ab")
    gateway.process = subprocess.Popen(["bash", "-c", script, "bash", str(listener.fileno()), program(), gateway.path],
                                       pass_fds=[listener.fileno()], stdout=gateway.stdout, stderr=gateway.stderr)
    wait_until(lambda: gateway.process.poll() is not None or gateway.is_ready(), 10, "ready")
    assert gateway.process.poll() is None, gateway.errors()
    gateway.remember()
    with Client(port, gateway.cafile) as client:
        assert client.request(key=key).status == 200
    listener.close()
