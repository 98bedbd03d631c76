"""The command line: what it says, and how it ends."""
import json
import os
import re
import socket
import subprocess
import threading

import pytest
from harness import command, make_certificate, program, wait_until

SUBCOMMANDS = [(), ("run",), ("check",), ("key",), ("key", "new"), ("key", "list"), ("key", "revoke"), ("key", "rotate"), ("ctl",), ("token",), ("token", "keys")]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=" ".join)
def test_every_command_has_help(subcommand):
    shown = command(*subcommand, "--help")
    assert shown.returncode == 0 and "sallyport" in shown.stdout and len(shown.stdout.splitlines()) >= 3


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run",), ("run", "--nonsense"), ("check",), ("key",), ("key", "nonsense"), ("key", "new"),
                                       ("ctl", "nonsense"), ("run", "--config")], ids=" ".join)
def test_wrong_usage_is_said_on_stderr_with_status_2(arguments):
    shown = command(*arguments)
    assert shown.returncode == 2 and shown.stderr.strip() and not shown.stdout


def test_version_names_ours_and_every_library():
    shown = command("version")
    assert shown.returncode == 0 and re.search(r"\d+\.\d+\.\d+", shown.stdout)
    for library in ("OpenSSL", "jansson"):
        assert library.lower() in shown.stdout.lower()


# ---- check ----

def test_check_says_ok(start):
    gateway = start.gateway(start=False)
    shown = command("check", "--config", gateway.path)
    assert shown.returncode == 0 and "OK" in shown.stdout


def test_check_opens_no_port(start):
    gateway = start.gateway()  # the ports are in use
    assert command("check", "--config", gateway.path).returncode == 0


def test_check_takes_json_too(start):
    gateway = start.gateway(start=False)
    with open(gateway.path, "w") as file:
        json.dump(gateway.config, file)
    assert command("check", "--config", gateway.path).returncode == 0


@pytest.mark.parametrize("redis", [
    {"url": "redis://10.0.0.1:6379/1"}, {"url": "rediss://10.0.0.1:6379"},
    {"sentinel": {"master": "limits", "nodes": ["10.0.0.1:26379"]}}, {"sentinel": {"master": "limits", "nodes": ["[::1]:26379"]}, "ca": "server.pem"},
    {"cluster": ["10.0.0.1:6379"]}, {"cluster": ["10.0.0.1:6379"], "server_name": "redis.internal"}], ids=str)
def test_check_takes_redis_in_every_place(start, redis):
    gateway = start.gateway(start=False)
    gateway.config["redis"] = redis
    gateway.write()
    shown = command("check", "--config", gateway.path)
    assert shown.returncode == 0 and "OK" in shown.stdout, shown


def test_check_lists_every_error_with_its_line(start):
    gateway = start.gateway(start=False)
    with open(gateway.path) as file:
        text = file.read()
    text = text.replace("workers: 1", "wrokers: 1").replace("pool: main", "pool: mian", 1).replace("drain_timeout: 10s", "drain_timeout: soon")
    gateway.write(text)
    shown = command("check", "--config", gateway.path)
    errors = [line for line in (shown.stdout + shown.stderr).splitlines() if re.match(r".*sallyport\.yaml:\d+:\d+: ", line)]
    assert shown.returncode == 1 and len(errors) == 3, shown
    lines = text.splitlines()
    for error in errors:
        number = int(error.split(".yaml:")[1].split(":")[0])
        assert any(word in lines[number - 1] for word in ("wrokers", "mian", "soon")), error
    assert any("workers" in error for error in errors if "wrokers" in error), "the nearest known key is the hint"


@pytest.mark.parametrize("yaml", ["", "[]", "version: 2\n", "version: 1\nversion: 1\n", "a: &a [*a]\n", "version: 1\n\tx: 1\n", "\x00", "- " * 10000])
def test_check_refuses_what_is_no_configuration(tmp_path, yaml):
    path = tmp_path / "odd.yaml"
    path.write_text(yaml)
    shown = command("check", "--config", path)
    assert shown.returncode == 1 and "odd.yaml" in shown.stdout + shown.stderr


def test_a_key_that_is_not_supported_yet_is_refused_by_name(start):
    gateway = start.gateway(start=False)
    gateway.config["tracing"] = {"otlp": "http://127.0.0.1:4318/v1/traces", "sample": 0.01}
    gateway.write()
    shown = command("check", "--config", gateway.path)
    assert shown.returncode == 1 and "tracing" in shown.stdout + shown.stderr and "not yet supported" in shown.stdout + shown.stderr


# ---- run: what does not fit is one sentence and exit status 1 ----

def refused(gateway, *words):
    gateway.config["logs"]["level"] = "error"
    gateway.write()
    shown = subprocess.run([program(), "run", "--config", gateway.path], capture_output=True, text=True, timeout=20)
    said = [line for line in shown.stderr.splitlines() if line.strip()]
    assert shown.returncode == 1, shown
    assert len(said) == 1, said
    for word in words:
        assert word in said[0], said[0]
    return said[0]


def test_run_refuses_a_missing_configuration(start):
    gateway = start.gateway(start=False)
    os.unlink(gateway.path)
    shown = command("run", "--config", gateway.path)
    assert shown.returncode == 1 and len(shown.stderr.strip().splitlines()) == 1 and gateway.path in shown.stderr


def test_run_refuses_a_missing_certificate(start):
    gateway = start.gateway(start=False)
    os.unlink(gateway.directory + "/server.pem")
    refused(gateway, "server.pem")


def test_run_refuses_a_private_key_that_others_can_read(start):
    gateway = start.gateway(start=False)
    os.chmod(gateway.directory + "/server.key", 0o644)
    refused(gateway, "server.key", "open to others")


def test_run_refuses_a_key_that_does_not_match_its_certificate(start):
    gateway = start.gateway(start=False)
    make_certificate(gateway.directory, stem="other")
    gateway.config["listeners"][0]["certificates"][0]["key"] = "other.key"
    refused(gateway, "other.key", "match")


def test_run_refuses_a_port_in_use(start):
    gateway = start.gateway(start=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway.config["listeners"][0]["address"] = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(gateway, str(taken.getsockname()[1]), "in use")


def test_run_refuses_a_certificate_that_is_none(start):
    gateway = start.gateway(start=False)
    with open(gateway.directory + "/server.pem", "w") as file:
        file.write("not a certificate\n")
    refused(gateway, "server.pem")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to say who else")
def test_run_as_root_wants_a_user(start):
    gateway = start.gateway(start=False)
    del gateway.config["user"]
    refused(gateway, "user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to say who else")
def test_run_refuses_a_user_that_does_not_exist(start):
    gateway = start.gateway(start=False)
    gateway.config["user"] = "nobody-of-this-name"
    refused(gateway, "nobody-of-this-name")


# ---- key ----

def test_key_new_makes_the_file_and_prints_the_secret_alone(tmp_path):
    path = tmp_path / "keys.yaml"
    made = command("key", "new", "--file", path, "--name", "first", "--role", "user", "--tenant", "acme", "--expires", "90d")
    assert made.returncode == 0 and re.fullmatch(r"sp_[0-9A-Za-z]{8}_\S{49}\n", made.stdout)
    assert not path.stat().st_mode & 0o077
    listed = command("key", "list", "--file", path)
    assert listed.returncode == 0 and "first" in listed.stdout and made.stdout[3:11] in listed.stdout
    assert made.stdout.strip() not in listed.stdout


def test_key_rotate_gives_a_new_secret(tmp_path):
    path = tmp_path / "keys.yaml"
    secret = command("key", "new", "--file", path, "--name", "first", "--role", "user").stdout.strip()
    rotated = command("key", "rotate", "--file", path, secret[3:11])
    assert rotated.returncode == 0 and rotated.stdout.strip().startswith("sp_") and rotated.stdout.strip() != secret


def test_key_revoke_of_an_unknown_key_says_so(tmp_path):
    path = tmp_path / "keys.yaml"
    command("key", "new", "--file", path, "--name", "first", "--role", "user")
    shown = command("key", "revoke", "--file", path, "AAAAAAAA")
    assert shown.returncode == 1 and "AAAAAAAA" in shown.stderr


def revoked(path, key_id):
    keys = json.loads(command("key", "list", "--file", path, "--json").stdout)
    return [key["state"] for key in keys if key["id"] == key_id] == ["revoked"]


def test_a_key_revoked_through_a_link_is_revoked_for_all_who_share_the_file(tmp_path):
    shared, link = tmp_path / "shared" / "keys.yaml", tmp_path / "own" / "keys.yaml"
    shared.parent.mkdir()
    link.parent.mkdir()
    link.symlink_to("../shared/keys.yaml")
    key_id = command("key", "new", "--file", shared, "--name", "first", "--role", "user").stdout[3:11]
    assert command("key", "revoke", "--file", link, key_id).returncode == 0
    assert link.is_symlink() and not shared.is_symlink()
    assert revoked(shared, key_id) and revoked(link, key_id)
    assert sorted(os.listdir(link.parent)) == ["keys.yaml"], "what lies beside the file lies beside the shared one"
    assert sorted(os.listdir(shared.parent)) == ["keys.yaml", "keys.yaml.lock", "keys.yaml.previous"]


def test_a_link_that_leads_nowhere_is_not_replaced_by_a_file(tmp_path):
    link = tmp_path / "keys.yaml"
    link.symlink_to("missing/keys.yaml")
    shown = command("key", "new", "--file", link, "--name", "first", "--role", "user")
    assert shown.returncode == 1 and shown.stdout == "" and f"{link} is a symbolic link" in shown.stderr
    assert link.is_symlink() and os.listdir(tmp_path) == ["keys.yaml"]


# ---- token ----

def development_issuer(gateway, *algorithm):
    """A key pair of `sallyport token keys`, its public part as the gateway's key set, and a token signed with it."""
    private, key_set = gateway.directory + "/dev.key", gateway.directory + "/dev.json"
    made = command("token", "keys", "--out-private", private, "--out-jwks", key_set, *algorithm)
    assert made.returncode == 0, made.stderr
    gateway.config["issuers"][0]["jwks"] = "dev.json"
    gateway.write()
    signed = command("token", "--key", private, "--issuer", gateway.config["issuers"][0]["issuer"], "--audience", "inference",
                     "--subject", "dev", "--role", "user", "--expires", "10m")
    assert signed.returncode == 0, signed.stderr
    assert len(signed.stdout.strip().split(".")) == 3 and len(signed.stdout.splitlines()) == 1
    return signed.stdout.strip()


def test_token_keys_keeps_the_private_key_private(tmp_path):
    private, key_set = tmp_path / "dev.key", tmp_path / "dev.json"
    assert command("token", "keys", "--out-private", private, "--out-jwks", key_set).returncode == 0
    assert not private.stat().st_mode & 0o077
    for key in json.loads(key_set.read_text())["keys"]:
        assert not set(key) & {"d", "p", "q", "dp", "dq", "qi", "k"}


# ---- ctl ----

def test_ctl_status_tells_processes_and_generation(start):
    gateway = start.gateway()
    shown = gateway.ctl("status", "--json")
    assert shown.returncode == 0, shown.stderr
    status = json.loads(shown.stdout)
    assert "generation" in json.dumps(status) and str(gateway.workers()[0]) in json.dumps(status)
    plain = gateway.ctl("status")
    assert plain.returncode == 0 and "worker" in plain.stdout


def test_ctl_drain_ends_the_gateway(start):
    gateway = start.gateway()
    assert gateway.ctl("drain").returncode == 0
    assert gateway.ended(10) == 0
    gateway.check_remains()


def test_ctl_without_a_gateway_says_what_to_do(tmp_path):
    shown = command("ctl", "status", "--socket", tmp_path / "none.sock")
    assert shown.returncode == 1 and str(tmp_path / "none.sock") in shown.stderr and len(shown.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("errors", [["worker 1: \x1b[2J\x1b]0;owned\x07 and \u009b2J", "Gr\u00fc\u00dfe\x7f"], []], ids=["errors", "a message"])
def test_ctl_shows_nothing_that_a_terminal_would_obey(tmp_path, errors):
    body = json.dumps({"ok": False, "message": "refused \x1b[2J\u009bK", "errors": errors}).encode()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "admin.sock"))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 422 No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        server = threading.Thread(target=answer, daemon=True)
        server.start()
        shown = command("ctl", "reload", "--socket", tmp_path / "admin.sock")
        server.join(10)
    assert shown.returncode == 1
    assert shown.stderr == ("worker 1: ?[2J?]0;owned? and ?2J\nGr\u00fc\u00dfe?\n" if errors else "refused ?[2J?K\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_the_admin_socket_is_not_for_everybody(start):
    gateway = start.gateway()
    os.chmod(gateway.directory, 0o755)  # so that only the socket itself is in the way
    mode = os.stat(gateway.directory + "/admin.sock").st_mode & 0o777
    assert mode == 0o660
    shown = subprocess.run(["setpriv", "--reuid=1", "--regid=1", "--clear-groups", program(), "ctl", "reload", "--socket", gateway.directory + "/admin.sock"],
                           capture_output=True, text=True, timeout=20)
    assert shown.returncode != 0
    assert gateway.is_ready()
