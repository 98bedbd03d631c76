"""Tuning limits: `sallyport diff` before a reload, with the past replayed, and `sallyport ctl limits` afterwards."""
import json
import os
import signal
import subprocess
import threading

import pytest
import yaml
from harness import CHAT, Plain, command, join, wait_until
from test_limits import limited, statuses

SERVED = (200, 429)


def admin_socket(gateway):
    return os.path.join(gateway.directory, "admin.sock")


def candidate(gateway, change, name="next.yaml"):
    """A changed configuration beside the one in force."""
    config = json.loads(json.dumps(gateway.config))
    change(config)
    path = os.path.join(gateway.directory, name)
    with open(path, "w") as file:
        file.write(yaml.dump(config, Dumper=Plain, sort_keys=False))
    return path


def diff(gateway, path, *more, **options):
    return command("diff", "--config", path, "--socket", admin_socket(gateway), *more, **options)


def diff_json(gateway, path, *more):
    said = diff(gateway, path, "--json", *more)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def limits(gateway, *more):
    return command("ctl", "limits", "--socket", admin_socket(gateway), *more)


def limits_json(gateway, *more):
    said = limits(gateway, "--json", *more)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def level(gateway, who, name, kind="requests", *more):
    [row] = [row for row in limits_json(gateway, who, *more)["limits"] if row["name"] == name]
    return row[kind]


def named(rows, name):
    [row] = [row for row in rows if row["name"] == name]
    return row


def fields(diff, name):
    return {field["field"]: field for field in named(diff["limits"], name)["fields"]}


def configure(config):
    config["limits"] = {"per-caller": limited("600/min", 60), "whole": limited("100/s", 200, by=["global"]), "spare": limited("1/h", 1)}
    config["models"] = {"demo": {"pool": "main"}, "large": {"pool": "main"}}
    config["routes"][0]["limits"] = ["per-caller"]
    config["routes"][0]["models"] = "body"
    config["roles"]["chat"]["limits"] = ["whole"]


# ---- diff ----

def test_the_configuration_in_force_differs_in_nothing_from_itself(gateway):
    for path in (gateway.path, candidate(gateway, lambda config: None)):
        found = diff_json(gateway, path)
        assert found["same"] is True and found["sections"] == {} and found["store_moves"] is False
        assert {limit["change"] for limit in found["limits"]} == {"unchanged"}
        said = diff(gateway, path, "--exit-code")
        assert said.returncode == 0 and "Nothing would change" in said.stdout


def test_limits_are_compared_one_by_one_with_what_becomes_of_levels(gateway):
    def change(config):
        config["limits"]["per-caller"] = limited("300/min", 20, shadow=True, concurrency=4, on_outage="closed")
        config["limits"]["whole"] = limited("100/s", 400, by=["global"])
        del config["limits"]["spare"]
        config["limits"]["new"] = {"by": ["tenant", "model"], "tokens": "1000/h"}
        config["routes"][0]["limits"] = ["new"]
        config["roles"]["batch"]["limits"] = ["per-caller"]
    path = candidate(gateway, change)
    found = diff_json(gateway, path)
    assert found["same"] is False
    changed = fields(found, "per-caller")
    assert (changed["requests"]["old"], changed["requests"]["new"]) == ("600/min", "300/min") and "no level jumps" in changed["requests"]["effect"]
    assert (changed["request_burst"]["old"], changed["request_burst"]["new"]) == ("60", "20")
    assert changed["request_burst"]["effect"] == "callers above 20 keep 20; nobody gets more"
    assert changed["shadow"]["new"] == "true" and changed["concurrency"]["new"] == "4" and changed["on_outage"]["new"] == "closed"
    assert changed["roles"]["effect"].startswith("+batch") and changed["routes"]["effect"].startswith("-api")
    assert fields(found, "whole")["request_burst"]["effect"] == "nobody gets a gift: levels stay and may now grow to 400"
    assert named(found["limits"], "spare")["change"] == "removed" and named(found["limits"], "new")["change"] == "added"
    said = diff(gateway, path, "--exit-code")
    assert said.returncode == 3
    assert "request_burst 60 -> 20: callers above 20 keep 20; nobody gets more" in said.stdout and "new: added (by tenant, model" in said.stdout


def test_whom_a_limit_counts_is_a_new_set_of_buckets(gateway):
    def change(config):
        config["limits"]["per-caller"]["by"] = ["subject", "model"]
    by = fields(diff_json(gateway, candidate(gateway, change)), "per-caller")["by"]
    assert (by["old"], by["new"]) == ("subject", "subject, model") and "full bucket" in by["effect"]


def test_other_sections_are_told_in_a_line_each(gateway, start):
    other = start.backend()

    def change(config):
        config["pools"]["b"] = {"servers": [{"url": other.url}]}
        config["models"]["demo"]["pool"] = "b"
        config["models"]["qwen-7b"] = {"pool": "b"}
        del config["models"]["large"]
        config["listeners"][0]["max_connections"] = 77
        config["drain_timeout"] = "20s"
        config["routes"][1]["timeouts"] = {"total": "2h"}
        config["routes"].reverse()
    found = diff_json(gateway, candidate(gateway, change))
    assert {limit["change"] for limit in found["limits"]} == {"unchanged"} and found["same"] is False
    sections = found["sections"]
    assert set(sections["models"]) == {'demo: pool "main" -> "b"', "+qwen-7b", "-large"}
    assert sections["pools"] == ["+b"] and "max_connections 20000 -> 77" in sections["listeners"][0]
    assert sections["drain_timeout"] == ['drain_timeout "10s" -> "20s"']
    assert set(sections["routes"]) == {'open: timeouts.total "1h" -> "2h"', "the order"}
    assert set(sections) == {"models", "pools", "listeners", "drain_timeout", "routes"}


def test_another_redis_means_full_buckets_there(gateway):
    def change(config):
        config["redis"] = {"url": "redis://127.0.0.1:1"}
        config["limits"]["per-caller"]["mode"] = "leased"
    found = diff_json(gateway, candidate(gateway, change))
    assert found["store_moves"] is True and found["sections"]["redis"] == ["added"]
    decided = fields(found, "per-caller")["requests are decided"]
    assert (decided["old"], decided["new"]) == ("here", "leased")


def test_secrets_are_neither_asked_for_nor_told(gateway):
    def change(config):
        config["routes"][0]["request_headers"] = {"set": {"x-secret": "hush-hush"}}
    found = diff(gateway, candidate(gateway, change), "--json")
    assert found.returncode == 0 and "hush-hush" not in found.stdout and "x-secret" in found.stdout


def test_a_file_whose_contents_changed_in_place_is_seen(start, issuer):
    gateway = start.gateway()
    with open(os.path.join(gateway.directory, "jwks.json"), "w") as file:
        file.write(json.dumps(json.loads(issuer.jwks_text()), indent=3))
    [line] = diff_json(gateway, gateway.path)["sections"]["issuers"]
    assert line.endswith("jwks (contents) changed")


def test_a_file_that_is_not_good_is_refused_as_by_check(gateway):
    path = candidate(gateway, lambda config: config["routes"][0].update(limits=["nowhere"]))
    said, checked = diff(gateway, path), command("check", "--config", path)
    assert said.returncode == 1 and said.stdout == "" and said.stderr == checked.stderr


def test_wrong_usage_and_help(gateway):
    assert "usage: sallyport diff --config FILE" in command("diff", "--help").stdout
    for arguments in ((), ("--config",), ("--config", gateway.path, "x"), ("--wrong",), ("--config", gateway.path, "--role", "user"),
                      ("--config", gateway.path, "--replay", "-", "--role", "nobody")):
        wrong = command("diff", *arguments, stdin=subprocess.DEVNULL)
        assert wrong.returncode == 2 and wrong.stdout == "" and "sallyport diff" in wrong.stderr, arguments
    absent = command("diff", "--config", gateway.path, "--socket", "/nonexistent/admin.sock")
    assert absent.returncode == 1 and "is it running" in absent.stderr
    assert diff(gateway, gateway.path, "--replay", "/nonexistent").returncode == 1
    assert command("diff", "--config", gateway.path).returncode == 0  # the file says where the socket is
    for arguments in (("limits", "a", "b"), ("limits", "--now"), ("status", "--tenant", "x"), ("limits", "x" * 5000)):
        assert command("ctl", *arguments, "--socket", admin_socket(gateway)).returncode == 2, arguments


# ---- diff --replay ----

def everybody_asks(gateway, keys, issuer):
    """The same requests in the same order each time: who, what, how it went."""
    found = []
    token = issuer.token(sub="alice", roles=["chat"])
    with gateway.client() as client:
        for turn in range(12):
            for who, secret in (("user", keys["user"]), ("second", keys["second"]), ("batch", keys["batch"]), ("alice", token)):
                if who == "second" and turn >= 3:
                    continue
                response = client.request("POST", "/v1/chat/completions", key=secret, body=CHAT)
                assert response.status in SERVED
                found.append((who, response.status, response.header("x-request-id")))
    for _, _, request_id in found[-3:]:
        gateway.logged(request_id)
    return found


def test_what_a_replay_predicts_is_what_happens_after_the_reload(start, keys, issuer):
    def change(config):
        configure(config)
        config["limits"] = {"per-caller": limited("1/h", 8), "of-batch": limited("1/h", 20), "whole": limited("1/h", 30, by=["global"]),
                            "watched": limited("1/h", 2, shadow=True)}
        config["routes"][0]["limits"] = ["per-caller", "watched"]
        config["roles"]["batch"]["limits"] = ["of-batch"]
        config["roles"]["chat"]["limits"] = []
    gateway = start.gateway(change=change)
    before = everybody_asks(gateway, keys, issuer)
    assert [sum(1 for w, status, _ in before if w == who and status == 429) for who in ("user", "second", "batch", "alice")] == [4, 0, 4, 4]

    def tighter(config):
        config["limits"]["per-caller"]["request_burst"] = 10
        config["limits"]["of-batch"]["request_burst"] = 5
        config["roles"]["chat"]["limits"] = ["whole"]
        config["limits"]["whole"] = limited("1/h", 6)
    path = candidate(gateway, tighter)
    predicted = diff_json(gateway, path, "--replay", gateway.access_log, "--role", "chat")["replay"]
    assert predicted["requests"] == len(before) and predicted["skipped"] == 0
    assert predicted["refused_in_log"] == predicted["refused_now"] == sum(1 for _, status, _ in before if status == 429)
    assert predicted["unsure"]["roles_unknown"] == 12

    gateway.stop()
    os.remove(gateway.access_log)
    tighter(gateway.config)
    gateway.write()
    gateway.start()  # buckets full, as at the beginning of the log
    after = everybody_asks(gateway, keys, issuer)
    assert predicted["refused_new"] == sum(1 for _, status, _ in after if status == 429)
    newly = {}
    for (who, was, _), (_, status, _) in zip(before, after):
        newly[who] = newly.get(who, 0) + (status == 429 and was == 200)
    told = {caller["who"].removeprefix("subject "): caller["refused"] for limit in predicted["limits"] for caller in limit["newly_refused"]}
    assert told == {who: count for who, count in newly.items() if count} and set(told) == {"batch", "alice"}
    no_longer = sum(1 for (_, was, _), (_, status, _) in zip(before, after) if was == 429 and status == 200)
    assert predicted["no_longer_refused"] == no_longer == 2
    assert named(predicted["limits"], "watched")["new"]["shadow_refused"] > 0


def line(when, **more):
    stamp = f"2026-11-22T21:{when // 60000:02}:{when // 1000 % 60:02}.{when % 1000:03}Z"
    return json.dumps({"time": stamp, "request_id": "r", "client": "192.0.2.1", "route": "api", "model": "demo", "subject": "alice", "tenant": None,
                       "key_id": None, "status": 200, "reason": "ok", "limit": None, "pool": "main", "tokens_in": None, "tokens_out": None,
                       "total_ms": 1.5, **more})


def replay(gateway, change, lines, *more):
    path = candidate(gateway, change)
    said = diff(gateway, path, "--json", "--replay", "-", *more, input="\n".join(lines) + "\n")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["replay"]


def test_tokens_are_taken_as_used_and_time_brings_them_back(gateway):
    def change(config):
        config["limits"]["new"] = {"by": ["subject"], "tokens": "600/min", "token_burst": 1000}
        config["routes"][0]["limits"] = ["new"]
    lines = [line(0, tokens_in=500, tokens_out=400), line(1000, tokens_in=10, tokens_out=200), line(12000, tokens_in=10, tokens_out=200),
             line(60000, tokens_in=3000, tokens_out=0, subject="big"), line(61000, tokens_in=1, tokens_out=0, subject="big")]
    found = named(replay(gateway, change, lines)["limits"], "new")
    assert (found["new"]["requests"], found["new"]["refused"]) == (5, 2)
    assert found["newly_refused"] == [{"who": "subject alice", "requests": 3, "refused": 1}, {"who": "subject big", "requests": 2, "refused": 1}]


def test_places_are_held_for_as_long_as_a_request_lasted_whatever_the_order_of_lines(gateway):
    def change(config):
        config["limits"]["new"] = {"by": ["subject"], "concurrency": 2}
        config["routes"][0]["limits"] = ["new"]
    short = [line(100 * i, total_ms=50) for i in range(1, 20)]
    long = [line(0, total_ms=1050), line(450, total_ms=1000)]  # they end, and are logged, last
    found = named(replay(gateway, change, short + long)["limits"], "new")
    assert (found["new"]["requests"], found["new"]["refused"]) == (21, 6)  # 0.5, 0.6 … 1.0; at 1.1 the first long one has ended


def test_logins_that_failed_count_for_limits_on_them(gateway):
    def change(config):
        config["limits"]["logins"] = {"by": ["address"], "requests": "1/h", "request_burst": 2, "count": "unauthorized"}
    failed = {"status": 401, "reason": "wrong api key", "subject": None, "pool": None}
    lines = [line(i, **failed) for i in range(5)] + [line(9, client="2001:db8::1", **failed), line(10)]
    found = named(replay(gateway, change, lines)["limits"], "logins")
    assert (found["new"]["requests"], found["new"]["refused"]) == (6, 3)
    assert found["newly_refused"] == [{"who": "address 192.0.2.1", "requests": 5, "refused": 3}]


def test_lines_that_are_torn_or_hostile_are_counted_and_skipped(gateway):
    def change(config):
        config["limits"]["per-caller"]["request_burst"] = 1
    lines = [line(0), line(1)[:100], "{}", "[]", "null", "\x00\x01", "[" * 5000, '{"time":"2026-11-22T21:00:00.000Z"}', line(2, total_ms=-1),
             line(3, total_ms=1e300), line(4, status="200"), line(5).replace("2026", "1812"), "x" * 200000, line(6, subject="a" * 2000), line(7, tokens_in=-5)]
    found = replay(gateway, change, lines)
    assert found["lines"] == 15 and found["skipped"] == 11 and found["requests"] == 4
    assert named(found["limits"], "per-caller")["newly"] == 2
    said = diff(gateway, candidate(gateway, change), "--replay", "-", input=line(0, subject="\x1b]0;x\x07") + "\n" + line(1, subject="\x1b]0;x\x07"))
    assert said.returncode == 0 and "\x1b" not in said.stdout and "\x07" not in said.stdout and "Newly refused by per-caller, 1 in all" in said.stdout


def test_requests_that_never_came_to_limits_and_routes_that_are_gone_are_not_asked(gateway):
    def change(config):
        config["routes"][1]["name"] = "renamed"
    lines = [line(0, status=403, reason="role", pool=None), line(1, status=None, reason="client left", pool=None), line(2, route="open"), line(3)]
    found = replay(gateway, change, lines)
    assert found["requests"] == 2 and found["unsure"]["route_unknown"] == 1


# ---- ctl limits ----

def test_the_table_of_limits_counts_what_happened(start, keys):
    def change(config):
        configure(config)
        config["limits"]["per-caller"] = limited("1/h", 2)
    gateway = start.gateway(change=change)
    assert statuses(gateway, 3, key=keys["user"]) == [200, 200, 429]
    found = wait_until(lambda: (lambda answer: answer["refusals"] and answer)(limits_json(gateway)))
    row = named(found["limits"], "per-caller")
    assert (row["admitted"], row["refused"], row["shadow_refused"]) == (2, 1, 0)
    assert row["requests"] == {"rate": "1/h", "amount": 1, "period_us": 3600000000, "burst": 2, "mode": "here"} and row["tokens"] is None
    assert row["by"] == ["subject"] and row["routes"] == ["api"] and row["roles"] == [] and found["redis"] == {"configured": False, "up": None}
    assert [(refusal["limit"]["name"], refusal["subject"]) for refusal in found["refusals"]] == [("per-caller", "user")]
    said = limits(gateway).stdout
    assert "no redis is configured" in said and "1/h, burst 2" in said and found["refusals"][0]["request_id"] in said


@pytest.fixture(params=["here", "redis strict", "redis leased"])
def place(request, start):
    redis = request.getfixturevalue("redis_server") if request.param != "here" else None
    mode = "leased" if request.param.endswith("leased") else "strict"
    backend = start.backend()

    def change(config):
        if redis:
            config["redis"] = {"url": redis.url, "deadline": "500ms"}
        config["limits"] = {"per-caller": {"by": ["subject"], "requests": "60/h", "request_burst": 50, "mode": mode},
                            "budget": {"by": ["key"], "tokens": "1000/h", "token_burst": 5000, "mode": mode},
                            "of-tenant": limited("1/h", 7, by=["tenant"]), "of-model": limited("1/h", 9, by=["subject", "model"]),
                            "at-once": {"by": ["subject"], "concurrency": 3, "mode": mode}}
        config["models"] = {"demo": {"pool": "main"}}
        config["routes"][0].update(limits=list(config["limits"]), models="body")
    return start.gateway(backend, change=change), backend


def test_levels_are_what_the_headers_said(place, keys):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": {"prompt_tokens": 30, "completion_tokens": 70, "total_tokens": 100}}))
    with gateway.client() as client:
        for _ in range(3):
            response = client.request("POST", "/v1/chat/completions", key=keys["tenant"], body=CHAT)
    assert response.status == 200
    remaining = int(response.header("x-ratelimit-remaining-requests"))
    assert response.header("x-ratelimit-limit-requests") == "7" and remaining == 4  # the tightest: the tenant's
    assert level(gateway, "tenant", "of-tenant")["level"] == remaining
    bucket = level(gateway, "tenant", "per-caller")
    assert bucket["level"] + bucket["leased"] == 47 and bucket["burst"] == 50 and bucket["debt"] == 0 and bucket["full_after_ms"] > 0
    wait_until(lambda: level(gateway, "tenant", "budget", "tokens")["level"] == 4700, 5, "three answers of 100 tokens are settled")
    found = limits_json(gateway, "tenant")
    assert found["account"] == "key:tenant" and found["tenant"] == "acme" and found["key_id"] == keys["tenant"][3:11]
    assert found["not_shown"] == [{"name": "of-model", "needs": ["model"]}]
    assert level(gateway, "tenant", "of-model", "requests", "--model", "demo")["level"] == 6
    assert level(gateway, "tenant", "of-model", "requests", "--model", "other")["level"] == 9
    assert {row["shared"] for row in found["limits"]} == {"redis" in gateway.config} and not any(row["degraded"] for row in found["limits"])


def test_looking_takes_nothing(place, keys):
    gateway, _ = place
    for _ in range(60):
        assert level(gateway, "user", "per-caller")["level"] == 50
    with gateway.client() as client:
        assert client.request("POST", "/v1/chat/completions", key=keys["user"], body=CHAT).status == 200


def test_an_overrun_is_shown_as_debt(place, keys):
    gateway, backend = place
    backend.on("/v1/chat/completions", lambda connection, _: connection.answer(200, {"usage": {"prompt_tokens": 6000, "completion_tokens": 1500, "total_tokens": 7500}}))
    with gateway.client() as client:
        assert client.request("POST", "/v1/chat/completions", key=keys["user"], body=CHAT).status == 200
    bucket = wait_until(lambda: (lambda bucket: bucket["debt"] and bucket)(level(gateway, "user", "budget", "tokens")), 5, "the debt")
    assert bucket["debt"] == 2500 and bucket["level"] == -2500 and bucket["burst"] == 5000
    assert abs(bucket["full_after_ms"] - 7.5 * 3600000) < 60000
    assert "2500" in limits(gateway, "user").stdout


def test_places_in_use_are_shown(place, keys):
    gateway, backend = place
    held, release = threading.Event(), threading.Event()

    def behaviour(connection, request):
        held.set()
        release.wait(30)
        connection.answer(200, {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    backend.on("/v1/chat/completions", behaviour)

    def ask():
        with gateway.client() as client:
            client.request("POST", "/v1/chat/completions", key=keys["user"], body=CHAT)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert held.wait(20)
        places = level(gateway, "user", "at-once", "concurrency")
        assert places["used"] == 1 and places["most"] == 3 and (places["had"] >= 1) == ("redis" in gateway.config)
    finally:
        release.set()
        join([thread])
    wait_until(lambda: level(gateway, "user", "at-once", "concurrency")["used"] == 0, 5, "the place is free")


def test_refusals_of_the_subject_are_told_with_its_levels(place, keys):
    gateway, _ = place
    assert statuses(gateway, 8, key=keys["tenant"]) == [200] * 7 + [429]
    assert statuses(gateway, 1, key=keys["user"]) == [200]
    found = wait_until(lambda: (lambda answer: answer["refusals"] and answer)(limits_json(gateway, "tenant")))
    assert [refusal["limit"]["name"] for refusal in found["refusals"]] == ["of-tenant"]
    assert level(gateway, "tenant", "of-tenant")["level"] == 0 and limits_json(gateway, "user")["refusals"] == []
    assert limits_json(gateway, "--key", keys["tenant"][3:11])["account"] == "key:tenant"


def test_leases_are_shown_while_they_live(start, redis_server, key):
    def change(config):
        config["redis"] = {"url": redis_server.url, "deadline": "500ms"}
        config["limits"] = {"per-caller": {"by": ["subject"], "requests": "5000/s", "request_burst": 5000}}
        config["routes"][0]["limits"] = ["per-caller"]
    gateway = start.gateway(change=change)
    over = threading.Event()

    def load():
        with gateway.client() as client:
            while not over.is_set():
                client.request("GET", "/v1/models", key=key)
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        bucket = wait_until(lambda: (lambda bucket: bucket["leased"] > 0 and bucket)(level(gateway, "user", "per-caller")), 20, "a lease")
        assert bucket["level"] <= 5000
        wait_until(lambda: limits_json(gateway)["decisions"]["leased"] > 0, 5, "decisions by leases are counted")
    finally:
        over.set()
        join(threads)
    assert named(limits_json(gateway)["limits"], "per-caller")["requests"]["mode"] == "leased"


def test_a_redis_that_is_away_does_not_hold_the_answer_up(start, redis_server, key):
    def change(config):
        config["redis"] = {"url": redis_server.url, "deadline": "20ms"}
        config["limits"] = {"shared": limited("1/h", 6), "closed": limited("1/h", 6, on_outage="closed")}
        config["routes"][0]["limits"] = ["shared"]
    gateway = start.gateway(change=change)
    assert statuses(gateway, 2, key=key) == [200, 200]
    redis_server.signal(signal.SIGSTOP)
    try:
        found = wait_until(lambda: (lambda answer: all(row["degraded"] for row in answer["limits"]) and answer)(limits_json(gateway, "user")), 10, "degraded")
        assert named(found["limits"], "shared")["requests"]["level"] == 4, "what Redis told last"
        assert named(found["limits"], "closed")["requests"]["level"] is None
        assert "Redis did not say" in limits(gateway, "user").stdout
    finally:
        redis_server.signal(signal.SIGCONT)


def test_who_is_meant_is_found_or_asked_for(start, keys):
    def change(config):
        config["limits"] = {"per-caller": limited("1/h", 6), "of-address": limited("1/h", 5, by=["address"])}
        config["routes"][0]["limits"] = ["per-caller", "of-address"]
        config["issuers"].append({**config["issuers"][0], "issuer": "https://other.tests.example"})
    gateway = start.gateway(change=change)
    token = start.issuer.token(sub="alice smith")
    assert statuses(gateway, 2, key=token) == [200, 200]
    ambiguous = limits(gateway, "alice smith")
    assert ambiguous.returncode == 1 and "jwt:ISSUER NAME" in ambiguous.stderr
    assert level(gateway, f"jwt:{start.issuer.name} alice smith", "per-caller")["level"] == 4
    assert level(gateway, "jwt:https://other.tests.example alice smith", "per-caller")["level"] == 6
    assert level(gateway, "user", "per-caller")["level"] == 6
    assert [row["name"] for row in limits_json(gateway, "--address", "127.0.0.1")["limits"]] == ["of-address"]
    assert limits_json(gateway, "--address", "127.0.0.1")["limits"][0]["requests"]["level"] == 3
    assert limits(gateway, "--address", "here").returncode == 1


def test_a_worker_that_stands_still_is_reported_in_time(start, key):
    gateway = start.gateway(change=configure)
    [worker] = gateway.pids("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        said = limits(gateway, "user")
        assert said.returncode == 1 and "has not answered" in said.stderr
        assert limits(gateway).returncode == 0  # what control knows by itself
    finally:
        os.kill(worker, signal.SIGCONT)
    assert limits(gateway, "user").returncode == 0
