"""The units: what systemd-analyze says of them, and the gateway confined as they say."""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest
import yaml
from harness import ROOT, SANITIZED, Client, command, process_name, program, wait_until

UNITS = os.path.join(ROOT, "systemd")
SERVICE = os.path.join(UNITS, "sallyport.service")
USER = "nobody"  # stands for the account of sysusers.conf, which no test creates


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60)


def systemd_version():
    return int(subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=60).stdout.split()[1])


def test_the_service_is_exposed_by_1_5_at_most(record_property):
    shown = analyze("security", "--offline=true", "--threshold=15", SERVICE)
    level = float(re.search(r"Overall exposure level for sallyport.service: ([\d.]+)", shown.stdout).group(1))
    record_property("exposure", level)
    assert shown.returncode == 0 and level <= 1.5, shown.stdout


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    """With the program where it was built, and the line taken out that systemd before 253 is documented to pass over."""
    with open(SERVICE) as file:
        text = file.read()
    assert "\nType=notify\nType=notify-reload\n" in text and "\nExecStart=sallyport run " in text
    if systemd_version() < 253:
        text = text.replace("\nType=notify-reload\n", "\n")
        (tmp_path / "sallyport.service.d").mkdir()
        shutil.copy(os.path.join(UNITS, "sallyport.service.d", "10-systemd-252.conf"), tmp_path / "sallyport.service.d")
    (tmp_path / "sallyport.service").write_text(text.replace("ExecStart=sallyport ", f"ExecStart={program()} "))
    shutil.copy(os.path.join(UNITS, "sallyport.socket"), tmp_path)
    shown = analyze("verify", "--man=no", str(tmp_path / "sallyport.service"), str(tmp_path / "sallyport.socket"))
    assert shown.returncode == 0 and not (shown.stdout + shown.stderr).strip(), shown


def test_accounts_and_folders_are_what_the_units_name(tmp_path):
    shown = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "--dry-run", os.path.join(UNITS, "sysusers.conf")], capture_output=True, text=True,
                           timeout=60)
    assert shown.returncode == 0, shown
    with open(os.path.join(UNITS, "sysusers.conf")) as file:
        made = [line.split()[1] for line in file if line[0] in "ug"]
    with open(os.path.join(ROOT, "conf", "systemd.yaml")) as file:
        config = yaml.safe_load(file)
    with open(SERVICE) as file:
        service = file.read()
    assert set(config["admin"]["groups"]) <= set(made) and "\nUser=sallyport\nGroup=sallyport\n" in service and "sallyport" in made
    with open(os.path.join(UNITS, "tmpfiles.conf")) as file:
        folders = [line.split()[1] for line in file if line.startswith("d ")]
    assert re.search(r"LoadCredential=secret:(\S+)", service).group(1) in folders
    with open(os.path.join(UNITS, "sallyport.socket")) as file:
        assert f"FileDescriptorName={config['listeners'][0]['address'].removeprefix('systemd:')}\n" in file.read()


def test_a_credential_that_systemd_did_not_hand_over_is_said(tmp_path, certificate):
    shutil.copy(os.path.join(ROOT, "conf", "systemd.yaml"), tmp_path / "sallyport.yaml")
    (tmp_path / "tls").mkdir()
    shutil.copy(certificate[0], tmp_path / "tls" / "fullchain.pem")
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    text = (tmp_path / "sallyport.yaml").read_text()
    (tmp_path / "sallyport.yaml").write_text(text + "user: nobody\n")
    environment = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    shown = command("check", "--config", tmp_path / "sallyport.yaml", env=environment)
    assert shown.returncode == 1 and "LoadCredential=secret_privkey.pem:PATH" in shown.stdout + shown.stderr
    secrets = tmp_path / "credentials"
    secrets.mkdir(0o700)
    shutil.copy(certificate[1], secrets / "secret_privkey.pem")
    shown = command("check", "--config", tmp_path / "sallyport.yaml", env={**environment, "CREDENTIALS_DIRECTORY": str(secrets)})
    assert shown.returncode == 0, shown


def confined(config):
    """As conf/systemd.yaml: the port and the private key come from the manager."""
    config.pop("user", None)
    config["workers"] = 2
    config["listeners"][0]["address"] = "systemd:https"
    config["listeners"][0]["certificates"][0] = {"chain": "server.pem", "credential": "secret_privkey.pem"}


def hand_to(user, directory):
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        for folder, _, names in os.walk(directory):
            for path in [folder, *(os.path.join(folder, name) for name in names)]:
                os.chown(path, entry.pw_uid, entry.pw_gid)


@pytest.fixture
def unit(start, tmp_path, certificate):
    """The gateway under the filters of the service; its port and its notifications beside it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    gateway = start.gateway(start=False, change=confined)
    gateway.listening_on = listener.getsockname()[1]
    os.rename(gateway.directory + "/server.key", gateway.directory + "/secret_privkey.pem")
    os.mkdir(gateway.directory + "/credentials", 0o700)
    os.rename(gateway.directory + "/secret_privkey.pem", gateway.directory + "/credentials/secret_privkey.pem")
    gateway.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    gateway.notified.bind(gateway.directory + "/notify")
    gateway.notified.settimeout(15)
    hand_to(USER, gateway.directory)
    os.chmod(gateway.directory, 0o755)
    gateway.stdout, gateway.stderr = open(gateway.directory + "/stdout", "ab"), open(gateway.directory + "/stderr", "ab")
    launcher = os.path.join(ROOT, "tests", "e2e", "under_unit.py")
    script = 'exec 3<&"$1"; shift; exec "$@"'
    gateway.process = subprocess.Popen(
        ["bash", "-c", script, "bash", str(listener.fileno()), "/usr/bin/python3", launcher, SERVICE, USER, program(), "run", "--config", gateway.path],
        pass_fds=[listener.fileno()], stdout=gateway.stdout, stderr=gateway.stderr,
        env={**os.environ, "SOCKET_NAMES": "https", "CREDENTIALS_DIRECTORY": gateway.directory + "/credentials", "NOTIFY_SOCKET": gateway.directory + "/notify"})
    wait_until(lambda: gateway.process.poll() is not None or gateway.is_ready(), 15, "ready")
    assert gateway.process.poll() is None, gateway.errors()
    gateway.remember()
    yield gateway
    gateway.notified.close()
    listener.close()


def hear(gateway, word):
    heard = ""
    while word not in heard:
        heard += gateway.notified.recv(4096).decode() + "\n"
    return heard


@pytest.mark.skipif(SANITIZED, reason="the sanitizers need what the filters forbid")
def test_it_does_all_its_work_under_the_services_restrictions(unit, key):
    assert "READY=1" in hear(unit, "READY=1")
    for pid in [unit.process.pid, *unit.seen]:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        assert status["Seccomp"] == "2" and int(status["CapEff"], 16) == 0 and "0" not in status["Uid"].split(), process_name(pid)
    with Client(unit.listening_on, unit.cafile) as client:
        assert client.request(key=key).status == 200
        shown = unit.ctl("reload")
        assert shown.returncode == 0, shown
        told = hear(unit, "READY=1")
        assert "RELOADING=1" in told and "MONOTONIC_USEC=" in told
        assert client.request(key=key).status == 200, "the same connection, after the reload"
    assert unit.ctl("status").returncode == 0
    victim = unit.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len([pid for pid in unit.workers() if pid != victim]) == 2 and unit.is_ready(), 5, "a new worker")
    with Client(unit.listening_on, unit.cafile) as client:
        assert client.request(key=key).status == 200
    unit.signal(signal.SIGTERM)
    hear(unit, "STOPPING=1")
    assert unit.ended(15) == 0, unit.errors()
    assert "Operation not permitted" not in unit.errors() and "not supported by protocol" not in unit.errors(), unit.errors()
    unit.check_remains()
