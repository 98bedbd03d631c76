"""conf/quickstart.sh: from nothing to an answer, with nothing left behind."""
import os
import signal
import subprocess

import pytest
from harness import BUILD, ROOT, SANITIZED, Lines, ended, free_port, wait_until

pytestmark = pytest.mark.skipif(SANITIZED, reason="it would build the other tree")
PORTS = ("SALLYPORT_PORT", "SALLYPORT_METRICS_PORT", "SALLYPORT_MODEL_PORT", "SALLYPORT_REDIS_PORT")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "SALLYPORT_BUILD": BUILD, "SALLYPORT_STATE": str(tmp_path_factory.mktemp("quickstart") / "state"),
            **{name: str(free_port()) for name in PORTS}}


def quickstart(environment, *options):
    return subprocess.run(["sh", "conf/quickstart.sh", *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def holders(environment):
    """Which of its ports somebody still listens on."""
    held = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, timeout=30).stdout
    return [environment[name] for name in PORTS if f":{environment[name]} " in held]


@pytest.mark.parametrize("options", [["--once"], ["--once", "--redis"]], ids=" ".join)
def test_once_shows_an_answer_and_leaves_nothing_running(environment, options):
    shown = quickstart(environment, *options)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "This is a demonstration" in shown.stdout and "HTTP/1.1 200" in shown.stdout
    assert "x-ratelimit-remaining-requests: 4" in shown.stdout.lower()
    assert holders(environment) == []


def test_a_second_run_uses_what_the_first_made(environment):
    quickstart(environment, "--once")
    names = ("api-key", "server.pem", "issuer.key", "jwks.json", "keys.yaml")

    def contents():
        return [open(os.path.join(environment["SALLYPORT_STATE"], name)).read() for name in names]
    before = contents()
    assert quickstart(environment, "--once").returncode == 0
    assert contents() == before


def test_an_unknown_option_is_wrong_usage(environment):
    assert quickstart(environment, "--twice").returncode == 2


def test_it_stays_up_until_ctrl_c_and_its_three_lines_do_what_they_say(environment):
    # A terminal's Ctrl-C: INT, which a shell started in the background would ignore.
    process = subprocess.Popen(["sh", "conf/quickstart.sh"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    tries = []
    try:
        lines = Lines(process.stdout)
        while line := lines.next(120):
            if line.startswith(("curl ", "for ")):
                tries.append(line)
            if "until Ctrl-C" in line:
                break
        said = [subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60).stdout for line in tries]
        assert len(tries) == 3
        assert "data: [DONE]" in said[0] and '"object": "list"' in said[1]
        assert "HTTP/1.1 200" in said[2] and "HTTP/1.1 429" in said[2] and "retry-after" in said[2].lower()
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        ended(process, 30, "Ctrl-C does not end it")
    wait_until(lambda: holders(environment) == [], 5, "nothing is left running")
