"""Memory is bounded, whoever does not read."""
import threading
import time

import backend as behave
import pytest
from harness import join, wait_until

MIB = 1 << 20


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def settled(pid):
    """The resident size once it stands still for a moment."""
    last = [-1]

    def stands_still():
        before, last[0] = last[0], resident(pid)
        time.sleep(0.25)  # the window in which an unbounded buffer would have grown
        return before == last[0]
    wait_until(stands_still, 15, "the memory stands still")
    return last[0]


@pytest.mark.measures
def test_twenty_clients_that_do_not_read_a_fast_stream_cost_at_most_a_mebibyte_each(start, key, record_property):
    backend = start.backend()
    backend.on("/v1/flood", behave.floods(1 << 30))
    gateway = start.gateway(backend)
    gateway.ask(key=key)
    worker = gateway.workers()[0]
    before = settled(worker)
    clients = [gateway.client(receive_buffer=16384) for _ in range(20)]
    for client in clients:
        client.send_request("GET", "/v1/flood", key=key)
        client.read_head()
    assert backend.wait_for(lambda b: len(b.requests) == 21)
    grown = (settled(worker) - before) / MIB
    record_property("mebibytes_per_client", round(grown / 20, 3))
    for client in clients:
        client.close()
    assert grown <= 20, f"{grown:.1f} MiB for 20 clients"


@pytest.mark.measures
def test_idle_connections_cost_little(start, key, record_property):
    gateway = start.gateway(change=lambda config: config["listeners"][0].update(max_connections_per_address=1000))
    gateway.ask(key=key)
    worker = gateway.workers()[0]
    before = settled(worker)
    clients = [gateway.client() for _ in range(300)]
    for client in clients:
        assert client.request(key=key).status == 200
    grown = settled(worker) - before
    record_property("kibibytes_per_connection", round(grown / 300 / 1024, 1))
    for client in clients:
        client.close()
    assert grown / 300 <= 128 * 1024


@pytest.mark.measures
def test_many_requests_leave_no_memory_behind(start, key):
    gateway = start.gateway()
    worker = gateway.workers()[0]

    def crowd():
        for _ in range(10):
            with gateway.client() as client:
                for number in range(200):
                    client.request("POST", f"/v1/echo/{number}", key=key, body=b"x" * 2000)
    crowd()
    before = settled(worker)
    crowd()
    crowd()
    assert settled(worker) - before <= MIB


def test_bodies_share_one_budget(start, key):
    backend = start.backend(receive_buffer=8192)
    release = threading.Event()

    @behave.before_body
    def reads_late(connection, request):
        release.wait(20)
        connection.read_body(request)
        connection.answer(body={"length": len(request.body)})
    backend.on("/v1/late", reads_late)

    def change(config):
        config["memory"] = {"bodies": "1MiB"}
        for route in config["routes"]:
            route["max_body"] = "1MiB"
    gateway = start.gateway(backend, change=change)
    body, found = b"x" * 900_000, []

    def post():
        try:
            found.append(gateway.ask("POST", "/v1/late", key=key, body=body).status)
        except OSError:
            found.append(503)  # refused while it was still sending
    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    held = []
    wait_until(lambda: held.append(gateway.metric("sallyport_body_bytes")) or held[-1] > 0, 10, "bodies are held")
    for _ in range(20):
        held.append(gateway.metric("sallyport_body_bytes"))
    release.set()
    join(threads)
    assert max(held) <= MIB, "never more than the budget"
    assert len(found) == 8 and set(found) <= {200, 503} and 200 in found
    assert gateway.ask(key=key).status == 200
