"""Limits in a Redis that is reached over TLS, through a socket, or as a user of its own."""
import os
import subprocess
import threading

import pytest
import redis
from harness import free_port, join, put_down, wait_until
from pki import Authority


class SecureRedis:
    """A real redis-server that speaks only TLS, or only through a socket."""

    def __init__(self, directory, *options, **connection):
        self.connection = connection
        self.directory = str(directory)
        self.options = [str(option) for option in options]
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--save", "", "--appendonly", "no", "--dir", self.directory, "--maxmemory-policy",
                                         "noeviction", *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.api = redis.Redis(socket_timeout=2, **self.connection)
        wait_until(self._answers, 10, "redis-server answers")

    def _answers(self):
        try:
            return self.api.ping()
        except redis.exceptions.RedisError:
            return False

    def stop(self):
        put_down(self.process)

    def decisions(self):
        return self.api.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("redis"), "Redis Authority")


@pytest.fixture
def servers():
    made = []
    yield made.append
    for server in made:
        server.stop()


def over_tls(servers, tmp_path, authority, asks="no", alternatives="IP:127.0.0.1,DNS:redis.internal"):
    port = free_port()
    chain, private = authority.issue(f"redis-{port}", alternatives=alternatives)
    ours = authority.issue(f"test-{port}")
    server = SecureRedis(tmp_path, "--port", 0, "--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file", chain, "--tls-key-file", private,
                         "--tls-ca-cert-file", authority.pem, "--tls-auth-clients", asks,
                         port=port, ssl=True, ssl_ca_certs=authority.pem, ssl_certfile=ours[0], ssl_keyfile=ours[1], ssl_check_hostname=False)
    servers(server)
    server.url = f"rediss://127.0.0.1:{port}"
    return server


def gateway_for(start, settings, wait=True):
    def change(config):
        config["redis"] = {"deadline": "500ms", **settings}
        config["limits"]["each"] = {"by": ["subject"], "requests": "100000/s", "mode": "strict", "on_outage": "closed"}
        config["routes"][0]["limits"] = ["each"]
    gateway = start.gateway(change=change)
    if wait:
        wait_until(lambda: gateway.metric("sallyport_redis_up") == 1, 10, "the gateway reaches Redis")
    return gateway


def test_redis_over_tls_decides(start, key, servers, tmp_path, authority):
    server = over_tls(servers, tmp_path, authority)
    gateway = gateway_for(start, {"url": server.url, "ca": authority.pem})
    for _ in range(5):
        answer = gateway.ask(key=key)
        assert answer.status == 200 and answer.header("x-sallyport-degraded") is None
    assert server.decisions() >= 5


def test_a_redis_that_asks_for_a_certificate_gets_ours(start, key, servers, tmp_path, authority):
    server = over_tls(servers, tmp_path, authority, asks="yes")
    ours = authority.issue("gateway")
    gateway = gateway_for(start, {"url": server.url, "ca": authority.pem, "certificate": ours[0], "key": ours[1]})
    assert gateway.ask(key=key).status == 200
    assert server.decisions() == 1


def test_a_redis_that_is_not_the_one_named_is_not_used_and_the_log_says_why(start, key, servers, tmp_path, authority):
    server = over_tls(servers, tmp_path, authority, alternatives="DNS:redis.internal")
    gateway = gateway_for(start, {"url": server.url, "ca": authority.pem}, wait=False)
    assert gateway.ask(key=key).status in (429, 503), "this limit is closed without Redis"
    status = wait_until(lambda: next((line for line in gateway.errors().splitlines() if "is refused" in line), None), 10, "the log says why")
    assert "the certificate for 127.0.0.1 is refused" in status and "it is for redis.internal" in status
    assert server.decisions() == 0
    gateway.config["redis"]["server_name"] = "redis.internal"
    assert gateway.reload().returncode == 0
    wait_until(lambda: gateway.ask(key=key).status == 200, 10, "with the right name it is used")


def test_redis_through_a_socket_decides(start, key, servers, tmp_path):
    path = str(tmp_path / "redis.sock")
    server = SecureRedis(tmp_path, "--port", 0, "--unixsocket", path, "--unixsocketperm", "777", unix_socket_path=path)
    servers(server)
    for parent in [tmp_path, *tmp_path.parents]:
        if os.stat(parent).st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    gateway = gateway_for(start, {"url": f"unix://{path}"})
    assert gateway.ask(key=key).status == 200
    assert server.decisions() == 1


def user_of(server, name, password):
    # the rights that include/sallyport/limit.h names
    server.api.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", "~sallyport:*", "+evalsha", "+script|load", "+get", "+set",
                               "+time", "+ping", "+eval", "+zrange", "+zrangebyscore", "+zscore", "+zadd", "+zremrangebyrank", "+config|get", "+info")


@pytest.fixture
def with_user(start, servers, tmp_path):
    port = free_port()
    server = SecureRedis(tmp_path, "--port", port, "--bind", "127.0.0.1", port=port)
    servers(server)
    user_of(server, "gateway", "first")
    secret = tmp_path / "password"
    secret.write_text("first\n")
    secret.chmod(0o600)
    gateway = gateway_for(start, {"url": f"redis://127.0.0.1:{port}", "username": "gateway", "password_file": str(secret)})
    return server, secret, gateway


def test_a_user_of_its_own_decides(with_user, key):
    server, _, gateway = with_user
    assert gateway.ask(key=key).status == 200
    assert {client["user"] for client in server.api.client_list() if "evalsha" in client["cmd"]} == {"gateway"}


def test_a_password_changed_by_reload_costs_no_decision(with_user, key):
    server, secret, gateway = with_user
    stop, answers = threading.Event(), []

    def ask_on():
        with gateway.client() as client:
            while not stop.is_set():
                answer = client.request(key=key)
                answers.append((answer.status, answer.header("x-sallyport-degraded")))
    threads = [threading.Thread(target=ask_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    for password in ("second", "third", "fourth"):
        user_of(server, "gateway", password)
        secret.write_text(password + "\n")
        assert gateway.reload().returncode == 0
        done = len(answers)
        wait_until(lambda: len(answers) > done + 20, 10, "requests go on")
    stop.set()
    join(threads)
    assert set(answers) == {(200, None)}
    # Whoever connects anew needs the new one: so does the gateway, and it has it.
    server.api.execute_command("CLIENT", "KILL", "USER", "gateway")
    wait_until(lambda: gateway.ask(key=key).status == 200, 10, "it connects with the new password")


def test_a_password_that_redis_refuses_is_said_and_the_old_one_serves_on(with_user, key):
    _, secret, gateway = with_user
    secret.write_text("wrong\n")
    assert gateway.reload().returncode == 0
    wait_until(lambda: "Redis refused the new user or password" in gateway.errors(), 10, "the log says so")
    assert gateway.ask(key=key).status == 200
