"""A leaked API key is found by what doc/secret-scanning.md tells scanners to look for."""
import json
import os
import re
import subprocess

import pytest
from harness import ROOT, make_key

with open(os.path.join(ROOT, "doc", "secret-scanning.md"), encoding="utf-8") as file:
    PAGE = file.read()


def block(language, containing=""):
    return next(text for text in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M) if containing in text)


EXPRESSION = block("regex").strip()
KEY = re.compile(EXPRESSION)


def is_api_key(text):
    scope = {}
    exec(block("python"), scope)
    return scope["is_api_key"](text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("made") / "keys.yaml")
    return [make_key(path, f"key {number}") for number in range(50)], path


LEAKS = ["{}", "OPENAI_API_KEY={}", "api_key: '{}'", '{{"authorization": "Bearer {}"}}', "curl -H 'x-api-key: {}' https://api.example.com/v1/models",
         "https://api.example.com/?key={}&x=1", "\t{}\r\n", "client = OpenAI(api_key=\"{}\")", "<token>{}</token>", "{},{}"]


@pytest.mark.parametrize("leak", LEAKS)
def test_every_key_is_recognised_wherever_it_stands(made, leak):
    for secret in made[0]:
        found = KEY.findall(leak.format(*[secret] * leak.count("{}")))
        assert found and set(found) == {secret} and is_api_key(secret)


def test_the_checksum_tells_what_only_looks_like_a_key(made):
    for secret in made[0]:
        other = "A" if secret[20] != "A" else "B"
        assert not is_api_key(secret[:20] + other + secret[21:])
        assert not is_api_key(secret[:-1] + ("0" if secret[-1] != "0" else "1"))


def test_the_file_of_keys_holds_nothing_that_is_one(made):
    with open(made[1]) as keys:
        assert not KEY.search(keys.read())


def test_our_own_tree_holds_none():
    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in (".git", "node_modules", "run", "__pycache__", ".cache") and not name.startswith("build")]
        for name in files:
            with open(os.path.join(directory, name), encoding="latin-1") as file:
                found += [(name, text) for text in KEY.findall(file.read()) if is_api_key(text)]
    # One key is everybody's: the example, whose secret counts from 0 to 31.
    assert {text for _, text in found if not text.startswith("sp_AbCd0129_")} == set(), found


def test_every_configuration_on_the_page_has_the_same_expression():
    core = EXPRESSION.replace(r"\b", "")
    assert f"regex = '''{EXPRESSION}'''" in block("toml")
    pattern = json.loads(block("json"))["rules"][0]["options"]["patterns"][0]["pattern"]
    assert pattern == f"/{EXPRESSION}/"
    assert f"`{core}`" in PAGE
    with open(os.path.join(ROOT, "doc", "sallyport-key.1"), encoding="utf-8") as manual:
        assert core in manual.read().replace("\\-", "-")


def test_secretlint_finds_a_leaked_key_in_a_tree(made, tmp_path):
    program = os.path.join(ROOT, "tests", "tools", "node_modules", ".bin", "secretlint")
    if not os.access(program, os.X_OK):
        pytest.skip("secretlint is not installed: cd tests/tools && npm ci")
    rules = tmp_path / "secretlintrc.json"
    rules.write_text(block("json"))
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "clean.py").write_text("api_key = os.environ['API_KEY']\n")
    (tree / "deep" / "er" / "notes.txt").write_text(f"it works with\n  {made[0][0]}\n")
    def scan():
        return subprocess.run([program, "--secretlintrc", str(rules), "--format", "unix", "**/*"], capture_output=True, text=True,
                              timeout=60, cwd=tree)
    shown = scan()
    assert shown.returncode == 1 and "notes.txt" in shown.stdout and "clean.py" not in shown.stdout, shown
    (tree / "deep" / "er" / "notes.txt").unlink()
    shown = scan()
    assert shown.returncode == 0, shown
