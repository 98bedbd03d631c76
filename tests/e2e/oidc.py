"""A real authorization server (npm oidc-provider) and a plain one that answers whatever a test wants."""
import base64
import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
import urllib.parse
import urllib.request

import harness

CLIENTS = os.path.join(harness.ROOT, "tests", "clients")
MISSING = None
if not shutil.which("node") or not os.path.isdir(os.path.join(CLIENTS, "node_modules", "oidc-provider")):
    MISSING = "needs node, and `npm ci` in tests/clients"


class Provider:
    """Tokens come from its token endpoint; `rotate`, `withdraw`, `down`, `up` do what they say."""

    def __init__(self, directory, certificate):
        for tries_left in (2, 1, 0):
            self._begin(directory, certificate)
            try:
                assert json.loads(self.said.next(15)) == {"ready": True}
                return
            except (AssertionError, ValueError):
                # Seen once in hundreds of starts: node is there, and neither listens nor ends. It is a peer, not what is tested: once more.
                self.process.kill()
                self.process.wait(10)
                if not tries_left:
                    raise

    def _begin(self, directory, certificate):
        self.port, self.cafile = harness.free_port(), certificate[0]
        self.issuer = f"https://localhost:{self.port}"
        self.stderr = open(os.path.join(directory, f"provider-{self.port}"), "wb")
        self.process = subprocess.Popen(["node", os.path.join(CLIENTS, "oidc_provider.mjs"), str(self.port), *certificate], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr)
        self.said = harness.Lines(self.process.stdout)

    def stop(self):
        self.process.stdin.close()
        harness.ended(self.process, 10, "oidc_provider.mjs does not end")
        self.process.stdout.close()
        self.stderr.close()

    def _tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.said.next())

    def rotate(self):
        self._tell("rotate")

    def withdraw(self):
        self._tell("withdraw")

    def down(self):
        self._tell("down")

    def up(self):
        self._tell("up")

    def count(self, path):
        return self._tell("counts").get(path, 0)

    @staticmethod
    def secret(client):
        return f"{client} secret: 100 % & +"

    def _post(self, path, client, certificate=None, **form):
        context = ssl.create_default_context(cafile=self.cafile)
        if certificate:
            context.load_cert_chain(*certificate)
        login = ":".join(urllib.parse.quote_plus(part) for part in (client, self.secret(client)))
        request = urllib.request.Request(self.issuer + path, data=urllib.parse.urlencode(form).encode(),
                                         headers={"Authorization": "Basic " + base64.b64encode(login.encode()).decode()})
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.read()

    def token(self, client="app", resource="urn:jwt", scope="chat", certificate=None):
        """`resource` urn:jwt or urn:opaque says what form it has; with `elsewhere` in it it is not for us."""
        answer = self._post("/token", client, certificate, grant_type="client_credentials", resource=resource, scope=scope)
        return json.loads(answer)["access_token"]

    def revoke(self, token, client="app"):
        self._post("/token/revocation", client, token=token)


class Pretender:
    """Plain HTTP on loopback: `pages` says what each path answers, as (status, headers, body)."""

    def __init__(self):
        self.pages, self.asked = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, headers, body = outer.pages.get(self.path, (404, {}, b"nothing here"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def json(self, path, content, **headers):
        self.pages[path] = (200, {"Content-Type": "application/json", **headers}, json.dumps(content).encode())

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
