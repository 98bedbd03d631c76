"""Whenever it is told to stop, and whatever its processes are doing: it ends, and soon."""
import fcntl
import os
import signal
import socket
import subprocess
import time

import pytest
from harness import SANITIZED, program, wait_until
from watchdog import children

MOMENTS = 24 if SANITIZED else 48


def launched(gateway):
    """Started, and not waited for."""
    gateway.seen.clear()
    return gateway.launch()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_whenever_in_its_start_it_is_told_to(start, number):
    gateway = start.gateway(start=False, change=lambda config: config.update(workers=2, drain_timeout="1h"))
    began = time.monotonic()
    launched(gateway)
    wait_until(gateway.is_ready, 10, "the gateway is ready")
    whole = time.monotonic() - began
    gateway.stop()
    for moment in range(MOMENTS):
        launched(gateway)
        time.sleep(whole * 1.2 * moment / MOMENTS)  # the moment is what this is about
        gateway.remember()
        gateway.signal(number)
        status = gateway.ended(20, f"told after {moment} of {MOMENTS} parts of its start, it does not end")
        assert status in (0, -number), f"{status} after {moment} of {MOMENTS} parts\n{gateway.errors()}"
        gateway.check_remains()


def test_it_ends_when_told_twice_at_any_moment(start):
    gateway = start.gateway(change=lambda config: config.update(workers=2, drain_timeout="1h"))
    gateway.stop()
    for moment in range(MOMENTS // 2):
        launched(gateway)
        wait_until(lambda: len(children(gateway.process.pid)) == 3, 10, "its processes are there")
        gateway.remember()
        gateway.signal(signal.SIGTERM)
        time.sleep(0.0005 * moment)
        gateway.signal(signal.SIGTERM)
        assert gateway.ended(20, f"told twice, {moment / 2} ms apart, it does not end") in (0, 1)
        gateway.check_remains()


@pytest.mark.slow
def test_processes_of_its_own_that_stand_still_do_not_keep_it(start):
    """Nor does a drain_timeout of an hour: who gives no sign of life is killed."""
    gateway = start.gateway(change=lambda config: config.update(drain_timeout="1h"))
    for pid in gateway.pids("worker") + gateway.pids("control"):
        os.kill(pid, signal.SIGSTOP)
    gateway.signal(signal.SIGTERM)
    assert gateway.ended(25, "with all of them standing still, it does not end") == 1
    gateway.check_remains()


def test_nor_do_they_keep_it_longer_than_the_drain_timeout(start):
    gateway = start.gateway(change=lambda config: config.update(workers=2, drain_timeout="300ms"))
    for pid in gateway.pids("worker") + gateway.pids("control"):
        os.kill(pid, signal.SIGSTOP)
    gateway.signal(signal.SIGTERM)
    assert gateway.ended(10, "with all of them standing still, it does not end") == 1
    gateway.check_remains()


# ---- Whom it talks to stands still ----

def is_full(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        try:
            asking.sendto(b"", path)
        except BlockingIOError:
            return True
    return False


def test_a_service_manager_that_does_not_listen_does_not_hold_it_up(start, tmp_path, key):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        os.chmod(path, 0o777)
        os.chmod(tmp_path, 0o755)
        gateway = start.gateway(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000"})
        wait_until(lambda: is_full(path), 10, "nothing more is taken")
        assert gateway.reload().returncode == 0
        assert gateway.ask(key=key).status == 200
        gateway.stop()


def test_a_log_that_nobody_reads_does_not_hold_it_up(start, key):
    gateway = start.gateway(start=False)
    unread, end = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    filler = os.open(f"/proc/self/fd/{end}", os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while os.write(filler, b"x" * 512):
            pass
    os.close(filler)
    gateway.stdout, gateway.stderr = open(gateway.directory + "/stdout", "ab"), open(gateway.directory + "/stderr", "ab")
    gateway.process = subprocess.Popen([program(), "run", "--config", gateway.path], stdout=gateway.stdout, stderr=end)
    os.close(end)
    wait_until(gateway.is_ready, 10, "the gateway is ready")
    gateway.remember()
    assert gateway.ask(key=key).status == 200
    assert gateway.reload().returncode == 0
    os.kill(gateway.workers()[0], signal.SIGKILL)  # which is told in the log
    wait_until(lambda: gateway.is_ready() and gateway.ask(key=key).status == 200, 10, "a new worker serves")
    gateway.stop()
    os.close(unread)
