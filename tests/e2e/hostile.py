"""What the tests about hostile peers share: clients from other addresses, and what must be as before when a storm is over."""
import os
import socket
import struct
import threading

from harness import SLOWER, Client, tls_context, wait_until

MIB = 1 << 20


def client_from(address, gateway, timeout=15.0):
    """A client whose connection comes from another loopback address."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout * SLOWER, (address, 0))
    return over(raw, gateway)


def over(raw, gateway):
    """A client over a socket that is connected already."""
    client = Client.__new__(Client)
    try:
        client.sock = tls_context(gateway.cafile).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False,
                                                                  do_handshake_on_connect=False)
        client.sock.do_handshake()
    except BaseException:
        raw.close()
        raise
    client.pending, client.ended = bytearray(), None
    return client


def connect(gateway, address="127.0.0.1"):
    """Only TCP."""
    return socket.create_connection(("127.0.0.1", gateway.port), 15 * SLOWER, (address, 0))


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_closed(sock):
    """Has the peer closed? Never waits."""
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def sockets(pid):
    """How many sockets a process holds."""
    found = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
        except OSError:
            pass
    return found


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nothing_is_left(gateway):
    """Nobody is connected, no request is under way, no byte of a body is held."""
    for gauge in ("sallyport_connections", "sallyport_exchanges", "sallyport_body_bytes"):
        wait_until(lambda gauge=gauge: gateway.metric(gauge) == 0, 8, f"{gauge} is 0 again")


def every_slot_is_free(gateway, backend, slots, path="/open/slots"):
    """A server with max_in_flight `slots` takes that many requests at once and not one more: none is counted for ever."""
    go = threading.Event()

    def waits(connection, request):
        go.wait(20)
        connection.answer(body={})
    backend.on(path, waits)
    before = len(backend.requests)
    clients = [gateway.client() for _ in range(slots + 1)]
    try:
        for client in clients[:slots]:
            client.send_request("GET", path)
        assert backend.wait_for(lambda b: len(b.requests) == before + slots, 10), f"{len(backend.requests) - before} of {slots} slots are free"
        assert clients[slots].request("GET", path).status == 503
        go.set()
        assert [client.read_response().status for client in clients[:slots]] == [200] * slots
    finally:
        go.set()
        for client in clients:
            client.close()

