import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

import harness
import watchdog
from backend import Backend
from issuer import Issuer


def pytest_configure(config):
    config.watchdog = watchdog.Watchdog()
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time-out from outside: what is known by then is still reported
    config.addinivalue_line("markers", "measures: measures memory or time, which a sanitizer build distorts")
    config.addinivalue_line("markers", "slow: takes several seconds")


def pytest_collection_modifyitems(items):
    if harness.SANITIZED:
        skip = pytest.mark.skip(reason="measures what a sanitizer build distorts")
        for item in items:
            if item.get_closest_marker("measures"):
                item.add_marker(skip)


# ---- Nobody waits for ever (watchdog.py) ----

@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    item.config.watchdog.begins(item.nodeid)
    outcome = yield
    item.config.watchdog.ends(interrupted=outcome.excinfo is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.config.watchdog.arm()
    if item.nodeid in item.config.watchdog.lethal:
        pytest.skip("it ended a worker before, which has been counted")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    item.config.watchdog.arm()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """What a worker that did not end well has left."""
    if error:
        watchdog.kill(watchdog.marked(f"PYTEST_XDIST_TESTRUNUID={node.workerinput['testrunuid']}", f"PYTEST_XDIST_WORKER={node.gateway.id}"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return harness.make_certificate(str(tmp_path_factory.mktemp("certificate")))


@pytest.fixture(scope="session")
def issuer():
    return Issuer()


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """keys.yaml with one key per role; `keys["user"]` is the secret."""
    directory = tmp_path_factory.mktemp("keys")
    path = str(directory / "keys.yaml")
    secrets = {"user": harness.make_key(path, "user"), "second": harness.make_key(path, "second"),
               "tenant": harness.make_key(path, "tenant", tenant="acme"), "batch": harness.make_key(path, "batch", roles=("batch",))}
    return {"file": path, **secrets}


def plain_config(directory, certificate, keys, issuer, backends):
    """The configuration most tests begin with. What a test is about, it changes itself."""
    shutil.copy(certificate[0], directory / "server.pem")
    shutil.copy(certificate[1], directory / "server.key")
    shutil.copy(keys["file"], directory / "keys.yaml")
    (directory / "jwks.json").write_text(issuer.jwks_text())
    config = {
        "version": 1,
        "listeners": [{"address": f"127.0.0.1:{harness.free_port()}", "certificates": [{"chain": "server.pem", "key": "server.key"}],
                       "protocols": ["http/1.1"]}],
        "workers": 1,
        "drain_timeout": "10s",
        "issuers": [{"issuer": issuer.name, "audience": ["inference"], "jwks": "jwks.json",
                     "algorithms": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]}],
        "api_keys": "keys.yaml",
        "roles": {"user": {"models": ["*"]}, "chat": {"models": ["*"]}, "batch": {"models": ["*"]}},
        "limits": {},
        "pools": {"main": {"servers": [{"url": backend.url} for backend in backends]}},
        "routes": [{"name": "api", "path": "/v1/", "authenticate": ["jwt", "api_key"], "pool": "main"},
                   {"name": "open", "path": "/open/", "authenticate": ["none"], "pool": "main"}],
        "admin": {"socket": "admin.sock", "metrics": f"127.0.0.1:{harness.free_port()}"},
        "logs": {"access": "access.log", "level": "debug"},
    }
    if os.geteuid() == 0:
        config["user"] = "nobody"
    return config


class Starter:
    """Makes gateways and backends, and takes down what it made, in the right order, whatever happened in between."""

    def __init__(self, certificate, keys, issuer):
        self.certificate, self.keys, self.issuer = certificate, keys, issuer
        self.gateways, self.backends, self.directories = [], [], []

    def backend(self, **more):
        backend = Backend(**more)
        self.backends.append(backend)
        return backend

    def directory(self):
        path = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-test-"))
        self.directories.append(path)
        return path

    def config(self, *backends):
        directory = self.directory()
        return directory, plain_config(directory, self.certificate, self.keys, self.issuer, backends or (self.backend(),))

    def gateway(self, *backends, change=None, start=True, environment=None):
        """`change(config)` edits the plain configuration before it is written."""
        directory, config = self.config(*backends)
        if change:
            config = change(config) or config
        gateway = harness.Gateway(directory, config, environment)
        self.gateways.append(gateway)
        return gateway.start() if start else gateway

    def finish(self):
        try:
            problems = self.stop()
        except BaseException:  # a time-out: what is left has had its time
            for gateway in self.gateways:
                if gateway.process:
                    gateway.kill()
            raise
        assert not problems, "\n".join(problems)

    def stop(self):
        problems = []
        for gateway in self.gateways:
            try:
                gateway.stop()
            except AssertionError as problem:
                problems.append(str(problem))
        for backend in self.backends:
            backend.stop()
        for directory in self.directories:
            if not problems:
                shutil.rmtree(directory, ignore_errors=True)
        return problems


@pytest.fixture
def start(certificate, keys, issuer):
    starter = Starter(certificate, keys, issuer)
    yield starter
    starter.finish()


@pytest.fixture(scope="module")
def shared(certificate, keys, issuer):
    """One backend and one gateway for all tests of a file that do not change its configuration."""
    starter = Starter(certificate, keys, issuer)
    yield starter
    starter.finish()


@pytest.fixture(scope="module")
def shared_backend(shared):
    return shared.backend()


@pytest.fixture(scope="module")
def shared_gateway(request, shared, shared_backend):
    return shared.gateway(shared_backend, change=getattr(request.module, "configure", None))


@pytest.fixture
def backend(shared_backend):
    shared_backend.reset()
    return shared_backend


@pytest.fixture
def gateway(shared_gateway):
    return shared_gateway


@pytest.fixture
def client(shared_gateway):
    with shared_gateway.client() as client:
        yield client


@pytest.fixture(scope="session")
def key(keys):
    return keys["user"]


class Redis:
    """A real redis-server with nothing on disk."""

    def __init__(self, directory):
        self.directory, self.port = directory, harness.free_port()
        self.process = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        import redis
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                                         "--dir", self.directory, "--maxmemory-policy", "noeviction"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.api = redis.Redis(port=self.port, socket_timeout=2)
        harness.wait_until(self._answers, 10, "redis-server answers")

    def _answers(self):
        import redis
        try:
            return self.api.ping()
        except redis.exceptions.RedisError:
            return False

    def kill(self):
        if self.process:
            harness.put_down(self.process)
            self.process = None

    def signal(self, number):
        self.process.send_signal(number)


@pytest.fixture
def redis_server(tmp_path):
    server = Redis(str(tmp_path))
    yield server
    server.kill()


def words_of(gateway):
    lines = gateway.errors().splitlines() if os.path.exists(gateway.directory + "/stderr") else []
    return "\n".join(lines[-25:])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows what its gateways had to say; one that waited too long, also what they were doing."""
    outcome = yield
    report = outcome.get_result()
    guard = item.config.watchdog
    if report.outcome != "passed" and guard.outcome != "failed":
        guard.outcome = report.outcome
    if not report.failed:
        return
    late = "Timeout >" in report.longreprtext
    for name in ("start", "shared"):
        for gateway in getattr(item.funcargs.get(name), "gateways", []):
            report.sections.append((f"stderr of {gateway.directory}", words_of(gateway)))
            if late and gateway.process:
                report.sections.append((f"processes of {gateway.directory}", watchdog.story(gateway.process.pid)))
                report.sections.append((f"connections of {gateway.directory}", gateway.connections()))
