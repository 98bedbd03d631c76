"""Redis as it is run: a cluster of three nodes, a master with a replica and three sentinels; real redis-servers on free loopback ports."""
import os
import subprocess

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness import SLOWER, free_port, put_down, wait_until

running = []  # whatever became of who started them: stop_all()


def stop_all():
    while running:
        running[-1].kill()


class Server:
    """A redis-server in a directory of its own, configured by a file there, so that what it learns outlives it."""

    def __init__(self, directory, lines, sentinel=False, **connection):
        self.directory = os.path.join(str(directory), f"redis-{free_port()}")
        os.makedirs(self.directory)
        self.sentinel, self.process = sentinel, None
        self.port = free_port()
        self.connection = {"port": self.port, "socket_timeout": 5, **connection}
        with open(os.path.join(self.directory, "redis.conf"), "w") as out:
            listening = f"port 0\ntls-port {self.port}" if connection.get("ssl") else f"port {self.port}"
            out.write("\n".join([listening, "bind 127.0.0.1", f"dir {self.directory}", *lines, ""]))
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", os.path.join(self.directory, "redis.conf"), *(["--sentinel"] if self.sentinel else [])],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(self)
        # Sentinels close the connections of whom they give another role.
        self.api = redis.Redis(retry=Retry(NoBackoff(), 3), retry_on_error=[redis.exceptions.ConnectionError], **self.connection)
        wait_until(self._answers, 10, "redis-server answers")

    def _answers(self):
        try:
            return self.api.ping()
        except redis.exceptions.RedisError:
            return False

    def ask(self, *words):
        """Where the reply is text, as the protocol has it: redis-py makes something of its own of some."""
        return self.api.execute_command(*words, NEVER_DECODE=True)

    def kill(self):
        if self.process:
            running.remove(self)
            put_down(self.process)
            self.process = None

    def decisions(self):
        return self.api.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


STORE = ["save \"\"", "appendonly no", "maxmemory-policy noeviction"]


class Cluster:
    def __init__(self, directory, *lines, **connection):
        self.make = lambda: Server(directory, [*STORE, "cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 2000",
                                               "cluster-require-full-coverage no", *lines], **connection)
        self.nodes = [self.make() for _ in range(3)]
        secure = ["--tls", "--cacert", connection["ssl_ca_certs"]] if connection.get("ssl") else []
        made = subprocess.run(["redis-cli", *secure, "--cluster", "create", *[node.address for node in self.nodes], "--cluster-yes"],
                              capture_output=True, text=True, timeout=60 * SLOWER)
        assert made.returncode == 0, made.stdout + made.stderr
        wait_until(lambda: all(self._is_well(node) for node in self.nodes), 20, "all nodes agree")
        self.ids = [node.ask("CLUSTER", "MYID").decode() for node in self.nodes]

    @staticmethod
    def _is_well(node):
        info = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_slots_ok:16384" in info and b"cluster_known_nodes:3" in info

    @property
    def settings(self):
        return {"cluster": [node.address for node in self.nodes]}

    def find(self, part):
        """→ (index of the node, key) of the first key with this in it."""
        for i, node in enumerate(self.nodes):
            for key in node.api.scan_iter(match=f"*{part}*", count=1000):
                return i, key
        raise AssertionError(f"no node has a key with {part}")

    def slot(self, key):
        return int(self.nodes[0].ask("CLUSTER", "KEYSLOT", key))

    def move(self, slot, source, target):
        """One slot with its keys, in the order redis-cli does it, while whoever wants asks for them."""
        from_node, to_node = self.nodes[source], self.nodes[target]
        to_node.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        from_node.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])
        while keys := from_node.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            from_node.ask("MIGRATE", "127.0.0.1", to_node.port, "", 0, 5000, "KEYS", *keys)
        for node in (to_node, from_node, *self.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])
        # A node that had not heard of the last move would think itself the owner again once it hears of an older one.
        wait_until(lambda: len({self._told(node) for node in self.nodes}) == 1, 20, "all nodes agree on who owns what, and since when")

    @staticmethod
    def _told(node):
        """What this node thinks: per node its epoch and slots."""
        lines = [line.split() for line in node.ask("CLUSTER", "NODES").decode().splitlines()]
        return tuple(sorted((words[0], words[6], *(word for word in words[8:] if not word.startswith("["))) for words in lines))

    def replicate(self, index):
        """A replica of that node, ready to take its place."""
        replica, master = self.make(), self.nodes[index]
        added = subprocess.run(["redis-cli", "--cluster", "add-node", replica.address, master.address, "--cluster-slave",
                                "--cluster-master-id", self.ids[index]], capture_output=True, text=True, timeout=60 * SLOWER)
        assert added.returncode == 0, added.stdout + added.stderr
        wait_until(lambda: replica.api.info("replication").get("master_link_status") == "up", 20, "the replica has what its master has")
        wait_until(lambda: all(b"cluster_known_nodes:4" in node.ask("CLUSTER", "INFO") for node in self.nodes), 20, "all know it")
        return replica


class Watched:
    """A master with a replica, watched by three sentinels that need two of them to agree."""

    def __init__(self, directory, *lines):
        self.master = Server(directory, [*STORE, "repl-diskless-sync-delay 0", *lines])
        self.replica = Server(directory, [*STORE, "repl-diskless-sync-delay 0", f"replicaof 127.0.0.1 {self.master.port}", *lines])
        self.sentinels = [Server(directory, [f"sentinel monitor limits 127.0.0.1 {self.master.port} 2",
                                             "sentinel down-after-milliseconds limits 500", "sentinel failover-timeout limits 3000"], sentinel=True)
                          for _ in range(3)]
        wait_until(self._is_well, 40, "the sentinels know each other and the replica")

    def _is_well(self):
        told = [sentinel.api.info("sentinel").get("master0", {}) for sentinel in self.sentinels]
        return (all((master.get("status"), master.get("slaves"), master.get("sentinels")) == ("ok", 1, 3) for master in told)
                and self.replica.api.info("replication").get("master_link_status") == "up")

    @property
    def settings(self):
        return {"sentinel": {"master": "limits", "nodes": [sentinel.address for sentinel in self.sentinels]}}
