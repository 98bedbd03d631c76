"""A development issuer: its signing keys, its public key set, and tokens with whatever a test wants in them."""
import base64
import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, length):
    return base64url(value.to_bytes(length, "big"))


class Issuer:
    def __init__(self, directory, name="https://login.tests.example"):
        self.directory, self.name = directory, name
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pss = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.keys = {"RS256": (self.rsa, "rsa-1"), "PS256": (self.pss, "pss-1"), "ES256": (self.ec, "ec-1"), "EdDSA": (self.ed, "ed-1")}

    def jwks(self):
        found = []
        for algorithm, (key, key_id) in self.keys.items():
            common = {"kid": key_id, "alg": algorithm, "use": "sig"}
            if algorithm in ("RS256", "PS256"):
                public = key.public_key().public_numbers()
                found.append({**common, "kty": "RSA", "n": number(public.n, 256), "e": number(public.e, 3)})
            elif algorithm == "ES256":
                public = key.public_key().public_numbers()
                found.append({**common, "kty": "EC", "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32)})
            else:
                raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                found.append({**common, "kty": "OKP", "crv": "Ed25519", "x": base64url(raw)})
        return {"keys": found}

    def jwks_text(self):
        return json.dumps(self.jwks())

    def claims(self, **changes):
        now = int(time.time())
        claims = {"iss": self.name, "aud": "inference", "sub": "alice", "iat": now, "nbf": now, "exp": now + 600, "roles": ["user"], **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, algorithm="ES256", typ="JWT", headers=(), **claims):
        key, key_id = self.keys[algorithm]
        return jwt.encode(self.claims(**claims), key, algorithm=algorithm, headers={"kid": key_id, "typ": typ, **dict(headers)})
