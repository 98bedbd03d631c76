"""What is written for people: every command and option is in the manual and in the completion, and the examples are right."""
import json
import os
import re
import subprocess

import pytest
from harness import ROOT, command, make_key, program

PAGES = {"key": "sallyport-key.1", "token": "sallyport-token.1"}  # all others: sallyport.8
ALL_PAGES = ["sallyport.8", "sallyport.yaml.5", *PAGES.values()]


def help_of(*words):
    shown = command(*words, "--help")
    assert shown.returncode == 0
    return shown.stdout


def commands():
    return re.findall(r"^  ([a-z]+)  ", help_of(), re.M)


def actions(name):
    text = help_of(name)
    usage = re.findall(rf"^(?:usage:|      ) sallyport {name} +([a-z]+)\b", text, re.M)
    return sorted(set(usage + re.findall(r"^  ([a-z]+)\b", text, re.M)))


def options(*words):
    return sorted(set(re.findall(r"^  (--[a-z][a-z-]*)", help_of(*words), re.M)))


COMMANDS = commands()


def page_text(name):
    shown = subprocess.run(["man", "--local-file", os.path.join(ROOT, "doc", name)], capture_output=True, text=True, check=True, timeout=60,
                           env={**os.environ, "MANWIDTH": "400", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""})
    return re.sub(r".\x08", "", shown.stdout).replace("‐", "-").replace("−", "-")


def test_the_help_names_commands_and_options():
    assert {"run", "check", "key", "token", "ctl", "version"} <= set(COMMANDS)
    assert "reload" in actions("ctl") and "rotate" in actions("key") and "--expires" in options("key") and "--socket" in options("ctl")


@pytest.mark.parametrize("name", ALL_PAGES)
def test_man_has_no_complaint_about_a_page(name):
    path = os.path.join(ROOT, "doc", name)
    shown = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path], capture_output=True, text=True, timeout=60,
                           env={**os.environ, "MANROFFSEQ": "", "LC_ALL": "C.UTF-8"})
    assert shown.returncode == 0 and not shown.stderr.strip(), shown.stderr
    text = page_text(name)
    for section in ("NAME", "DESCRIPTION", "SEE ALSO"):
        assert re.search(rf"^{section}$", text, re.M), section


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_manual(name):
    text = page_text(PAGES.get(name, "sallyport.8"))
    missing = [word for word in [f"sallyport {name}", *options(name), *(o for action in actions(name) for o in options(name, action)), *actions(name)]
               if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)]
    assert not missing


@pytest.mark.parametrize("name", ALL_PAGES)
def test_a_page_refers_to_pages_that_exist(name):
    for stem, section in re.findall(r"\b(sallyport[\w.-]*)\((\d)\)", page_text(name)):
        assert f"{stem}.{section}" in ALL_PAGES, f"{stem}({section})"


def completed(*words):
    """What TAB offers after `sallyport WORDS`."""
    script = '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sallyport; printf "%s\\n" "${COMPREPLY[@]}"'
    shown = subprocess.run(["bash", "-euo", "pipefail", "-c", "set +e +o pipefail; " + script, "bash", os.path.join(ROOT, "conf", "completion.bash"), program(), *words],
                           capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and not shown.stderr, shown
    return sorted(set(shown.stdout.split()))


def test_every_command_is_completed():
    assert completed("") == sorted([*COMMANDS, "--help"])
    assert completed("che") == ["check"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_action_and_option_of_a_command_is_completed(name):
    assert completed(name, "") == sorted([*actions(name), *options(name)])
    assert completed(name, "--h") == ["--help"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name in ("key", "token", "ctl")])
def test_an_actions_own_options_are_completed(name):
    for action in actions(name):
        usage = re.search(rf"^(?:usage:|      ) sallyport {name} +{action}\b(.*)$", help_of(name, action), re.M)
        own = sorted({*re.findall(r"--[a-z][a-z-]*", usage.group(1)), "--help"}) if usage else options(name, action)
        value = ["error"] if re.search(rf"^  {action} [A-Z]+\b", help_of(name), re.M) else []  # where it takes one, that comes first
        assert completed(name, action, *value, "--") == own, action


def test_files_levels_algorithms_and_keys_are_completed(tmp_path):
    (tmp_path / "some.yaml").write_text("")
    assert completed("check", "--config", str(tmp_path) + "/s") == [str(tmp_path / "some.yaml")]
    assert completed("ctl", "loglevel", "") == ["debug", "error", "info", "warn"]
    assert completed("token", "keys", "--alg", "E") == ["ES256", "EdDSA"]
    keys = str(tmp_path / "keys.yaml")
    identifiers = sorted(make_key(keys, name)[3:11] for name in ("one", "two"))
    offered = completed("key", "revoke", "--file", keys, "")
    assert sorted(set(offered) & set(identifiers)) == identifiers
    assert completed("key", "rotate", "--file", keys, identifiers[0][:6]) == [identifiers[0]]


def test_installed_names_fit_the_sections():
    for name in ALL_PAGES:
        with open(os.path.join(ROOT, "doc", name)) as file:
            title = next(line for line in file if line.startswith(".TH "))
        stem, section = name.rsplit(".", 1)
        assert title.split()[1].replace("\\-", "-").lower() == stem and title.split()[2] == section, title


def test_version_lists_the_licence_of_everything_that_is_linked():
    shown = json.loads(command("version", "--json").stdout)
    listed = {file for library in shown["libraries"].values() for file in library["files"]}
    linked = set()
    for name in ("sallyport", "sallyport-supervisor", "sallyport-worker", "sallyport-control"):
        dynamic = subprocess.run(["readelf", "-dW", program(name)], capture_output=True, text=True, check=True, timeout=60).stdout
        linked |= {re.sub(r"\.so.*", "", file) for file in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)}
    assert {file for file in linked if not re.match(r"ld-linux|lib(a|ub|t)san|libgcc_s|libm$|libresolv|libpthread|libdl|librt", file)} <= listed
    assert shown["license"] == "Apache-2.0"
    for name, library in shown["libraries"].items():
        assert re.fullmatch(r"\d[\w.+-]*", library["version"]) and re.fullmatch(r"[A-Za-z][\w.-]+", library["license"]), name
