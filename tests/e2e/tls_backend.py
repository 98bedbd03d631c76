"""The model server of backend.py, behind TLS."""
import ssl

from backend import Backend


class TlsBackend(Backend):
    """`identity` is (chain, key). `asks`: the file of authorities that sign its clients. `handshakes` has a line for each that succeeded."""

    def __init__(self, identity, asks=None, newest=ssl.TLSVersion.TLSv1_3):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = newest
        self.context.sni_callback = self._note_name
        self.context.set_alpn_protocols(["http/1.1"])
        if asks:
            self.context.load_verify_locations(asks)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_cert_chain(*identity)
        self.handshakes, self.failures, self.names = [], [], []
        super().__init__()
        self.url = f"https://127.0.0.1:{self.port}"

    def _note_name(self, sock, name, context):
        self.names.append(name)

    def show(self, identity):
        """From now on another certificate."""
        self.context.load_cert_chain(*identity)

    def _serve(self, connection):
        try:
            connection.sock = self.context.wrap_socket(connection.sock, server_side=True)
        except (ssl.SSLError, OSError) as error:
            self.failures.append(str(error))
        else:
            peer = dict(part[0] for part in (connection.sock.getpeercert() or {}).get("subject", ()))
            self.handshakes.append({"version": connection.sock.version(), "resumed": connection.sock.session_reused,
                                    "alpn": connection.sock.selected_alpn_protocol(), "client": peer.get("commonName")})
        super()._serve(connection)
