"""Limits in Redis as it is run: a cluster whose slots move and whose nodes die, a master that sentinels replace."""
import signal
import threading

import pytest
from harness import join, wait_until
from pki import Authority
from redis_nodes import Cluster, Watched, stop_all
from test_limits import limited


@pytest.fixture
def topology(tmp_path):
    """Makes a Cluster or a Watched, and takes it down."""
    yield lambda kind, *lines, **connection: kind(tmp_path, *lines, **connection)
    stop_all()


def gateway_for(start, settings, *backends, deadline="1s", **limit):
    """Tests of exactness give a deadline that a busy machine keeps."""
    def change(config):
        config["redis"] = {"deadline": deadline, **settings}
        config["limits"]["each"] = limited(**{"requests": "1/h", "burst": 10, "on_outage": "closed", **limit})
        config["routes"][0]["limits"] = ["each"]
    gateway = start.gateway(*backends, change=change)
    redis_up(gateway)
    return gateway


def redis_up(gateway):
    wait_until(lambda: gateway.metric("sallyport_redis_up") >= 1, 20, "the gateway reaches Redis")


def ask(client, token):
    answer = client.request("GET", "/v1/models", headers=[("Authorization", f"Bearer {token}")])
    return answer.status, answer.header("x-sallyport-degraded")


def user_of(server, *more):
    # what include/sallyport/limit.h and src/limit/redis_route.h name for limits on requests
    server.ask("ACL", "SETUSER", "gateway", "reset", "on", ">secret", "~sallyport:*", "+evalsha", "+script|load", "+get", "+set", "+time", "+ping",
               "+zrangebyscore", "+config|get", *more)


def users(server):
    """Who has asked for decisions."""
    return {client["user"] for client in server.api.client_list() if "evalsha" in client["cmd"]}


def credentials(directory):
    secret = directory / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    return {"username": "gateway", "password_file": str(secret)}


class Callers(threading.Thread):
    """One connection on which these tokens ask in turn until it is told to stop, or `rounds` times."""

    def __init__(self, gateway, tokens, rounds=None):
        super().__init__(daemon=True)
        self.gateway, self.tokens, self.rounds = gateway, tokens, rounds
        self.stopped, self.answers = threading.Event(), []
        self.start()

    def run(self):
        with self.gateway.client() as client:
            while not self.stopped.is_set() and self.rounds != 0:
                self.answers += [(token, *ask(client, token)) for token in self.tokens]
                self.rounds = self.rounds and self.rounds - 1


def tokens_of(issuer, *names):
    return {name: issuer.token(sub=name) for name in names}


NAMES = [f"caller-{letter}" for letter in "abcdefghijkl"]


def test_two_gateways_on_a_cluster_admit_what_one_would(start, issuer, topology):
    cluster, backend = topology(Cluster), start.backend()
    gateways = [gateway_for(start, cluster.settings, backend) for _ in range(2)]
    tokens = tokens_of(issuer, *NAMES)
    before = [node.decisions() for node in cluster.nodes]
    callers = [Callers(gateway, list(tokens.values()), rounds=8) for gateway in gateways for _ in range(2)]
    join(callers)
    answers = [answer for caller in callers for answer in caller.answers]
    assert {degraded for _, _, degraded in answers} == {None}
    for token in tokens.values():
        statuses = [status for asked, status, _ in answers if asked == token]
        assert statuses.count(200) == 10 and statuses.count(429) == 22
    assert all(node.decisions() > count for node, count in zip(cluster.nodes, before)), "every node has a part in it"


def test_a_slot_that_moves_loses_no_request_and_admits_not_one_too_many(start, issuer, topology):
    cluster, backend = topology(Cluster), start.backend()
    gateways = [gateway_for(start, cluster.settings, backend, burst=6000) for _ in range(2)]
    token = issuer.token(sub="wanderer")
    with gateways[0].client() as client:
        assert ask(client, token) == (200, None)
    place, key = cluster.find("wanderer")
    slot = cluster.slot(key)
    callers = [Callers(gateway, [token]) for gateway in gateways for _ in range(2)]
    moves = 0
    while moves < 10 or not any(status == 429 for caller in callers for _, status, _ in caller.answers):
        cluster.move(slot, place, (place + 1) % 3)
        place, moves = (place + 1) % 3, moves + 1
        # A slot that went full circle while an ASK was on its way would be begun anew by it, whoever the client is: no answer is that old.
        seen = [len(caller.answers) for caller in callers]
        wait_until(lambda: all(len(caller.answers) >= count + 2 for caller, count in zip(callers, seen)), 20, "everybody had an answer since")
    for caller in callers:
        caller.stopped.set()
    join(callers)
    answers = [answer for caller in callers for answer in caller.answers]
    assert {degraded for _, _, degraded in answers} == {None}
    assert sum(status == 200 for _, status, _ in answers) == 5999, f"after {moves} moves"
    assert {status for _, status, _ in answers} == {200, 429}


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_node_that_is_away_degrades_its_slots_only(start, issuer, topology, how):
    cluster = topology(Cluster)
    gateway = gateway_for(start, cluster.settings, deadline="200ms", requests="1000/s", burst=1000, on_outage="open")
    tokens = tokens_of(issuer, *NAMES)
    with gateway.client() as client:
        assert {ask(client, token) for token in tokens.values()} == {(200, None)}
        homes = {name: cluster.find(name)[0] for name in NAMES}
        gone = homes[NAMES[0]]
        assert set(homes.values()) != {gone}
        cluster.nodes[gone].kill() if how == "killed" else cluster.nodes[gone].process.send_signal(signal.SIGSTOP)
        assert {status for status, _ in (ask(client, tokens[NAMES[0]]) for _ in range(5))} == {200}
        wait_until(lambda: gateway.metric("sallyport_redis_up") == 0, 10, "the metric tells")
        for _ in range(20):
            for name, token in tokens.items():
                assert ask(client, token) == (200, "limits" if homes[name] == gone else None), name
        cluster.nodes[gone].start() if how == "killed" else cluster.nodes[gone].process.send_signal(signal.SIGCONT)
        wait_until(lambda: ask(client, tokens[NAMES[0]]) == (200, None), 15, "its slots are shared again")
    redis_up(gateway)


def test_a_replica_that_takes_the_place_of_its_master_is_found(start, issuer, topology):
    cluster = topology(Cluster)
    gateway = gateway_for(start, cluster.settings, deadline="200ms", burst=1000000, on_outage="open")
    token = issuer.token(sub="caller")
    with gateway.client() as client:
        assert ask(client, token) == (200, None)
    place, _ = cluster.find("caller")
    replica = cluster.replicate(place)
    caller = Callers(gateway, [token])
    wait_until(lambda: len(caller.answers) > 50, 10, "requests are decided")
    cluster.nodes[place].kill()
    wait_until(lambda: replica.api.info("replication")["role"] == "master", 30, "the replica is the master")
    seen = len(caller.answers)
    wait_until(lambda: (token, 200, None) in caller.answers[seen:], 10, "limits are shared again")
    caller.stopped.set()
    join([caller])
    assert {status for _, status, _ in caller.answers} == {200}
    assert replica.decisions() > 0
    redis_up(gateway)


def test_keys_revoked_on_one_gateway_are_refused_by_the_other_through_a_cluster(start, topology, key):
    cluster, backend = topology(Cluster), start.backend()
    first, second = [gateway_for(start, cluster.settings, backend, burst=1000) for _ in range(2)]
    assert second.ask(key=key).status == 200
    assert first.ctl("revoke", key.split("_")[1]).returncode == 0
    wait_until(lambda: second.ask(key=key).status == 401, 10, "the other gateway refuses it")
    assert cluster.find("revoked")


def test_when_the_master_is_killed_the_gateway_goes_on_with_its_successor(start, issuer, topology):
    watched = topology(Watched)
    gateway = gateway_for(start, watched.settings, deadline="100ms", burst=1000000, on_outage="open")
    token = issuer.token(sub="caller")
    caller = Callers(gateway, [token])
    wait_until(lambda: len(caller.answers) > 50, 10, "requests are decided")
    watched.master.kill()
    wait_until(lambda: watched.replica.api.info("replication")["role"] == "master", 30, "the sentinels have made the replica the master")
    seen = len(caller.answers)
    wait_until(lambda: (token, 200, None) in caller.answers[seen:], 10, "limits are shared again")
    caller.stopped.set()
    join([caller])
    assert {status for _, status, _ in caller.answers} == {200}, "an outage of Redis is no error of ours"
    redis_up(gateway)
    assert watched.replica.decisions() > 0


def test_a_master_that_is_demoted_is_left_and_nothing_is_decided_by_it(start, issuer, topology):
    watched = topology(Watched)
    gateway = gateway_for(start, watched.settings, deadline="100ms", burst=1000000, on_outage="open")
    token = issuer.token(sub="caller")
    caller = Callers(gateway, [token])
    wait_until(lambda: len(caller.answers) > 50, 10, "requests are decided")
    watched.sentinels[0].ask("SENTINEL", "FAILOVER", "limits")
    wait_until(lambda: watched.master.api.info("replication")["role"] == "slave", 30, "the sentinels have demoted the master")
    seen = len(caller.answers)
    wait_until(lambda: (token, 200, None) in caller.answers[seen:], 10, "limits are shared again")
    caller.stopped.set()
    join([caller])
    assert {status for _, status, _ in caller.answers} == {200}
    redis_up(gateway)
    before = watched.replica.decisions()
    with gateway.client() as client:
        assert ask(client, token) == (200, None)
    assert watched.replica.decisions() == before + 1


def test_a_master_that_became_read_only_is_an_outage_until_it_is_not(start, redis_server, key):
    def change(config):
        config["redis"] = {"deadline": "1s", "url": redis_server.url}
        config["limits"]["each"] = limited("1/h", 10, on_outage="open")
        config["routes"][0]["limits"] = ["each"]
    gateway = start.gateway(change=change)
    redis_up(gateway)
    with gateway.client() as client:
        assert client.request(key=key).header("x-sallyport-degraded") is None
        redis_server.api.replicaof("127.0.0.1", 1)
        for _ in range(20):
            answer = client.request(key=key)
            assert (answer.status, answer.header("x-sallyport-degraded")) == (200, "limits")
        redis_server.api.replicaof("NO", "ONE")
        wait_until(lambda: client.request(key=key).header("x-sallyport-degraded") is None, 15, "limits are shared again")


def test_the_levels_of_a_cluster_outlive_the_gateway_and_need_one_member_only(start, issuer, topology):
    cluster = topology(Cluster)
    token = issuer.token(sub="caller")
    for node in cluster.nodes:
        gateway = gateway_for(start, {"cluster": [node.address]}, burst=6)
        with gateway.client() as client:
            assert [ask(client, token) for _ in range(2)] == [(200, None)] * 2
    with gateway.client() as client:
        assert ask(client, token) == (429, None)


def test_a_user_of_its_own_needs_two_rights_more_in_a_cluster(start, issuer, topology, tmp_path):
    cluster = topology(Cluster)
    for node in cluster.nodes:
        user_of(node, "+cluster|slots", "+asking")
    gateway = gateway_for(start, {**cluster.settings, **credentials(tmp_path)}, burst=1000)
    token = issuer.token(sub="caller")
    with gateway.client() as client:
        assert ask(client, token) == (200, None)
        place, key = cluster.find("caller")
        slot, target = cluster.slot(key), (place + 1) % 3
        cluster.nodes[target].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ids[place])
        cluster.nodes[place].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ids[target])
        cluster.nodes[place].ask("MIGRATE", "127.0.0.1", cluster.nodes[target].port, key, 0, 5000)
        assert ask(client, token) == (200, None), "by ASK"
        assert cluster.nodes[target].decisions() == 1
    assert {user for node in cluster.nodes for user in users(node)} == {"gateway"}


def test_a_user_of_its_own_needs_one_right_more_with_sentinels(start, issuer, topology, tmp_path):
    watched = topology(Watched)
    user_of(watched.master, "+role")
    gateway = gateway_for(start, {**watched.settings, **credentials(tmp_path)})
    with gateway.client() as client:
        assert ask(client, issuer.token(sub="caller")) == (200, None)
    assert users(watched.master) == {"gateway"}


def test_a_cluster_over_tls_is_spoken_to_by_its_addresses(start, issuer, topology, tmp_path):
    authority = Authority(tmp_path / "authority")
    chain, private = authority.issue("node", alternatives="IP:127.0.0.1")
    cluster = topology(Cluster, "tls-cluster yes", f"tls-cert-file {chain}", f"tls-key-file {private}", f"tls-ca-cert-file {authority.pem}",
                       "tls-auth-clients no", ssl=True, ssl_ca_certs=authority.pem, ssl_check_hostname=False)
    gateway = gateway_for(start, {**cluster.settings, "ca": authority.pem})
    with gateway.client() as client:
        assert {ask(client, token) for token in tokens_of(issuer, *NAMES).values()} == {(200, None)}
    assert all(node.decisions() > 0 for node in cluster.nodes)
