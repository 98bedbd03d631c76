"""TLS 1.3 and nothing older."""
import os
import socket
import ssl
import subprocess

import pytest
from harness import Client, make_certificate, tls_context, wait_until


def s_client(gateway, *options, feed=""):
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-CAfile", gateway.cafile, "-servername", "localhost", *options],
                          input=feed, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1", "-tls1"])
def test_older_versions_are_refused(gateway, backend, version):
    shown = s_client(gateway, version, "-cipher", "ALL:@SECLEVEL=0")
    assert shown.returncode != 0 and "New, TLSv1" not in shown.stdout


def test_tls_1_3_is_spoken(gateway, backend):
    shown = s_client(gateway, "-tls1_3", "-verify_return_error")
    assert "TLSv1.3" in shown.stdout and "Verify return code: 0" in shown.stdout


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_the_three_good_cipher_suites_work(gateway, backend, suite):
    assert suite in s_client(gateway, "-ciphersuites", suite).stdout


def test_alpn_gives_http_1_1(gateway, backend):
    with Client(gateway.port, context=tls_context(gateway.cafile, ("http/1.1",))) as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"


def test_a_client_without_alpn_is_served(gateway, backend, key):
    with Client(gateway.port, context=tls_context(gateway.cafile, ())) as client:
        assert client.request(key=key).status == 200


def test_a_client_that_knows_no_protocol_of_ours_is_refused(gateway, backend):
    with pytest.raises(ssl.SSLError):
        Client(gateway.port, context=tls_context(gateway.cafile, ("smtp",)))


def test_sessions_resume_across_workers(start, key):
    gateway = start.gateway(change=lambda config: config.update(workers=2))
    context = tls_context(gateway.cafile)
    session, resumed = None, 0
    for _ in range(12):
        with Client(gateway.port, context=context, session=session) as client:
            assert client.request(key=key).status == 200
            resumed += client.sock.session_reused
            session = client.sock.session
    assert resumed >= 11, "whichever worker answers knows the ticket"


def test_no_early_data_is_offered(gateway, backend):
    shown = s_client(gateway, "-tls1_3", feed="")
    assert "Max Early Data: 0" in shown.stdout or "Early data was not sent" in shown.stdout


def test_the_certificate_follows_the_name_asked_for(start):
    def change(config):
        config["listeners"][0]["certificates"].append({"chain": "second.pem", "key": "second.key"})
    gateway = start.gateway(change=change, start=False)
    make_certificate(gateway.directory, "second.example", "second")
    gateway.start()
    with Client(gateway.port, gateway.directory + "/second.pem", server_name="second.example"):
        pass
    with Client(gateway.port, gateway.cafile, server_name="localhost"):
        pass
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(gateway.port, gateway.directory + "/second.pem", server_name="localhost")


def test_plain_http_gets_no_answer_and_no_crash(gateway, backend, key):
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"200" not in plain.recv(4096)
        except ConnectionError:
            pass
    assert gateway.ask(key=key).status == 200


def test_a_handshake_that_never_ends_is_given_up(start, key):
    gateway = start.gateway(change=lambda config: config["listeners"][0].update(handshake_timeout="300ms"))
    with socket.create_connection(("127.0.0.1", gateway.port)) as silent:
        silent.settimeout(10)
        silent.sendall(b"\x16\x03\x01\x02\x00\x01")
        try:
            while silent.recv(4096):
                pass
        except ConnectionError:
            pass
    assert gateway.ask(key=key).status == 200


def test_connections_per_address_are_capped(start, key):
    gateway = start.gateway(change=lambda config: config["listeners"][0].update(max_connections_per_address=5))
    held = [gateway.client() for _ in range(5)]
    for client in held:
        assert client.request(key=key).status == 200
    with pytest.raises((OSError, ssl.SSLError)):
        with gateway.client(timeout=3) as sixth:
            sixth.request(key=key)
    held.pop().close()

    def admitted():
        try:
            return gateway.ask(key=key).status == 200
        except (OSError, ssl.SSLError):
            return False
    wait_until(admitted, 5, "a place that was given back is taken")
    for client in held:
        client.close()


def test_addresses_can_be_denied(start):
    gateway = start.gateway(change=lambda config: config["listeners"][0].update(deny=["127.0.0.0/8"]))
    with pytest.raises((OSError, ssl.SSLError)):
        gateway.ask()


def test_garbage_in_the_handshake_harms_nobody(gateway, backend, key):
    for size in (1, 5, 100, 20000):
        with socket.create_connection(("127.0.0.1", gateway.port)) as noisy:
            noisy.settimeout(10)
            try:
                noisy.sendall(os.urandom(size))
                noisy.shutdown(socket.SHUT_WR)
                while noisy.recv(4096):
                    pass
            except OSError:
                pass
    assert gateway.ask(key=key).status == 200
