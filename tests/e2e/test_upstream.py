"""Pools: kept connections, safe retries, balancing, ejection."""
import backend as behave
from harness import free_port, wait_until


def servers(*backends, **more):
    def change(config):
        config["pools"]["main"] = {"servers": [{"url": backend.url} for backend in backends], **more}
    return change


def test_a_kept_connection_that_turns_out_dead_is_retried_once(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=servers(backend, retries=1))
    backend.on("/v1/echo", behave.one_request_per_connection)
    with gateway.client() as client:
        for _ in range(10):
            assert client.request("POST", "/v1/echo", key=key, body=b"once").status == 200


def test_a_backend_that_closes_between_requests_costs_nobody_an_answer(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=servers(backend, retries=1))
    backend.on("/v1/echo", behave.answers_once_then_closes_silently)
    with gateway.client() as client:
        assert [client.request("GET", "/v1/echo", key=key).status for _ in range(30)] == [200] * 30


def test_what_a_backend_has_begun_to_answer_is_never_sent_again(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=servers(backend, retries=3))
    backend.on("/v1/half", behave.raw(b"HTTP/1.1 200 OK\r\ncontent-le"))
    assert gateway.ask("POST", "/v1/half", key=key, body=b"x").status == 502
    assert len(backend.requests) == 1


def test_a_post_on_a_fresh_connection_is_not_sent_twice(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=servers(backend, retries=1))
    backend.on("/v1/dies", behave.closes_without_answer)
    assert gateway.ask("POST", "/v1/dies", key=key, body=b"charge me").status == 502
    assert len(backend.requests) == 1, "nobody can know whether it was done"


def test_retries_0_means_no_second_server(start, key):
    backend = start.backend()

    def change(config):
        config["pools"]["main"] = {"servers": [{"url": f"http://127.0.0.1:{free_port()}"}, {"url": backend.url}], "balance": "round_robin", "retries": 0}
    gateway = start.gateway(backend, change=change)
    with gateway.client() as client:
        assert sorted(client.request("GET", "/v1/echo", key=key).status for _ in range(2)) == [200, 502]


def test_a_server_that_refuses_connections_is_passed_over(start, key):
    backend = start.backend()

    def change(config):
        config["pools"]["main"] = {"servers": [{"url": f"http://127.0.0.1:{free_port()}"}, {"url": backend.url}], "balance": "round_robin", "retries": 1}
    gateway = start.gateway(backend, change=change)
    with gateway.client() as client:
        assert [client.request("POST", "/v1/echo", key=key, body=b"x").status for _ in range(12)] == [200] * 12


def test_round_robin_shares_evenly(start, key):
    backends = [start.backend() for _ in range(3)]
    gateway = start.gateway(*backends, change=servers(*backends, balance="round_robin"))
    with gateway.client() as client:
        for _ in range(30):
            client.request("GET", "/v1/echo", key=key)
    assert [len(backend.requests) for backend in backends] == [10, 10, 10]


def test_weights_are_proportions(start, key):
    backends = [start.backend() for _ in range(2)]

    def change(config):
        config["pools"]["main"] = {"servers": [{"url": backends[0].url, "weight": 3}, {"url": backends[1].url, "weight": 1}], "balance": "round_robin"}
    gateway = start.gateway(*backends, change=change)
    with gateway.client() as client:
        for _ in range(40):
            client.request("GET", "/v1/echo", key=key)
    assert [len(backend.requests) for backend in backends] == [30, 10]


def test_least_loaded_avoids_the_busy_server(start, key):
    backends = [start.backend() for _ in range(2)]
    gateway = start.gateway(*backends, change=servers(*backends, balance="least_loaded"))
    for backend in backends:
        backend.on("/v1/never", behave.never_answers)
    held = [gateway.client() for _ in range(10)]
    for number, client in enumerate(held):
        client.send_request("GET", "/v1/never", key=key)
        wait_until(lambda: sum(len(backend.requests) for backend in backends) == number + 1)
    assert sorted(len(backend.requests) for backend in backends) == [5, 5]
    for client in held:
        client.close()


def test_max_in_flight_is_kept_and_answered_with_503(start, key):
    backend = start.backend()
    backend.on("/v1/never", behave.never_answers)

    def change(config):
        config["pools"]["main"]["servers"][0]["max_in_flight"] = 2
    gateway = start.gateway(backend, change=change)
    held = [gateway.client() for _ in range(2)]
    for client in held:
        client.send_request("GET", "/v1/never", key=key)
    assert backend.wait_for(lambda b: len(b.requests) == 2)
    refused = gateway.ask(key=key)
    assert refused.status == 503 and refused.header("retry-after")
    held.pop().close()
    wait_until(lambda: gateway.ask(key=key).status == 200, 5, "a slot that was freed is used")
    held.pop().close()


def test_a_server_that_keeps_failing_is_ejected_and_comes_back(start, key):
    good, bad = start.backend(), start.backend()
    gateway = start.gateway(good, bad, change=servers(good, bad, balance="round_robin", retries=0,
                                                      outlier={"consecutive_failures": 3, "eject_for": "1s"}))
    bad.on("/v1/echo", behave.closes_without_answer)
    with gateway.client() as client:
        found = [client.request("GET", "/v1/echo", key=key).status for _ in range(30)]
        assert found.count(502) == 3 and found[-10:] == [200] * 10
        bad.on("/v1/echo", behave.echo)
        before = len(bad.requests)

        def comes_back():
            client.request("GET", "/v1/echo", key=key)
            return len(bad.requests) > before
        wait_until(comes_back, 5, "it gets traffic again")


def test_the_path_of_a_servers_url_goes_in_front(start, key):
    backend = start.backend()
    gateway = start.gateway(backend, change=lambda config: config["pools"]["main"]["servers"][0].update(url=backend.url + "/base"))
    assert gateway.ask("GET", "/v1/echo", key=key).json()["target"] == "/base/v1/echo"


def test_connections_to_a_server_are_reused_after_a_crowd(start, key):
    backend = start.backend()
    gateway = start.gateway(backend)
    clients = [gateway.client() for _ in range(20)]
    for _ in range(5):
        for client in clients:
            client.send_request("GET", "/v1/echo", key=key)
        for client in clients:
            assert client.read_response().status == 200
    assert len({request.connection for request in backend.requests}) <= 20
    for client in clients:
        client.close()
