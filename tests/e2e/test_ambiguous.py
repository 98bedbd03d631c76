"""Requests that two readers could understand differently are refused, and nothing of them reaches a backend twice.

ambiguous/index.json names each request, the status it must get and where the doubt lies: in a head that is in doubt nothing may be
forwarded; where only the body is, its head may have been, but never a whole request.
"""
import json
import os
import re

import pytest

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ambiguous")
with open(os.path.join(FOLDER, "index.json")) as index:
    CASES = json.load(index)
FOLLOWER = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\nx-api-key: @KEY@\r\n\r\n"


def raw(case, key):
    """The request. Where only its body is in doubt its target names the case: what an earlier one left on its way is then not taken for it."""
    with open(os.path.join(FOLDER, case["name"] + ".http"), "rb") as file:
        request = file.read().replace(b"@KEY@", key.encode())
    return request.replace(b" HTTP/", b"?case=%s HTTP/" % case["name"].encode(), 1) if case["in"] == "body" else request


def heads_at(backend, case):
    targets = re.findall(rb"(?m)^[A-Z]+ (\S+) HTTP/1\.1\r$", backend.bytes_received())
    if case["in"] == "body":
        return sum(target.endswith(b"?case=" + case["name"].encode()) for target in targets)
    return sum(b"?case=" not in target for target in targets)


def test_every_file_is_listed_and_there_are_many():
    listed = {case["name"] + ".http" for case in CASES}
    assert listed == {name for name in os.listdir(FOLDER) if name.endswith(".http")}
    assert len(CASES) >= 55


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_is_refused_and_closed(gateway, backend, key, case):
    with gateway.client() as client:
        client.send(raw(case, key))
        response = client.read_response("HEAD" if raw(case, key).startswith(b"HEAD ") else "GET")
        assert response.status == case["expected_status"]
        assert client.at_end() == "clean"
    assert not backend.requests, "a whole request at the backend"
    assert heads_at(backend, case) <= (1 if case["in"] == "body" else 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_follows_it_on_the_connection_is_never_read_as_a_request(gateway, backend, key, case):
    with gateway.client() as client:
        client.send(raw(case, key) + FOLLOWER.replace(b"@KEY@", key.encode()))
        answers = client.read_to_end()
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answers)) == 1
    assert b"smuggled" not in backend.bytes_received()
