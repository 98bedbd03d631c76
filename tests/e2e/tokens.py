"""Keys, key sets and tokens for the black-box tests: good ones, and everything that must be refused.

    keys = make_keys()                       # keys.jwks for the issuer's `jwks` file, keys.private for signing
    good_tokens(issuer, audience, keys, now) -> [(name, token)]   every one must be accepted
    forged_tokens(issuer, audience, keys, now) -> [(name, token)] every one must be refused

python3-jwt signs what it can sign; whatever it would refuse to sign is put together here by hand.
The issuer is taken to allow RS/PS/ES 256 384 512 and EdDSA, types at+jwt and JWT, leeway 60 s, max_token_age 24 h.
"""

import base64
import hashlib
import hmac
import json
from collections import namedtuple

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

Keys = namedtuple("Keys", "jwks private")

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def b64_json(value):
    return b64(json.dumps(value, separators=(",", ":")).encode())


def _number(value, length=None):
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def _public_jwk(kid, key, **more):
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = public.public_numbers()
        return dict(kty="RSA", kid=kid, n=_number(numbers.n), e=_number(numbers.e), **more)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers, size = public.public_numbers(), (key.key_size + 7) // 8
        return dict(kty="EC", kid=kid, crv=f"P-{key.key_size}", x=_number(numbers.x, size), y=_number(numbers.y, size), **more)
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return dict(kty="OKP", kid=kid, crv="Ed25519", x=b64(raw), **more)


def make_keys():
    """A new key of each kind; `stranger` and `stranger_rsa` are in no key set."""
    private = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "stranger": ec.generate_private_key(ec.SECP256R1()),
        "stranger_rsa": rsa.generate_private_key(65537, 2048),
    }
    jwks = {
        "keys": [
            _public_jwk("rsa", private["rsa"]),  # without alg: for every RS and PS
            _public_jwk("p256", private["p256"], alg="ES256", use="sig"),
            _public_jwk("p384", private["p384"], key_ops=["verify"]),
            _public_jwk("p521", private["p521"]),
            _public_jwk("ed", private["ed"], alg="EdDSA"),
        ]
    }
    return Keys(jwks, private)


def kid_for(algorithm):
    return {"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed"}.get(algorithm, "rsa")


def claims(issuer, audience, now, **changes):
    """The usual claims; a change to None takes one out."""
    usual = {"iss": issuer, "aud": audience, "sub": "alice", "iat": now, "exp": now + 600, "roles": ["chat"], "scope": "inference"}
    usual.update(changes)
    return {name: value for name, value in usual.items() if value is not None}


def sign(keys, content, algorithm="ES256", header=None, kid=""):
    """A token python3-jwt is willing to sign. kid: None leaves it out."""
    fields = dict(header or {})
    if kid is not None:
        fields["kid"] = kid or kid_for(algorithm)
    return jwt.encode(content, keys.private[kid_for(algorithm)], algorithm=algorithm, headers=fields)


def _raw_es256(key, text, der=False):
    signature = key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    if der:
        return signature
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def sign_by_hand(key, header, payload):
    """ES256 over any header and payload (text, or what JSON makes of it), whatever the header says."""
    parts = [b64(part.encode()) if isinstance(part, str) else b64_json(part) for part in (header, payload)]
    text = ".".join(parts)
    return text + "." + b64(_raw_es256(key, text))


def sign_hmac(secret, header, payload):
    text = b64_json(header) + "." + b64_json(payload)
    return text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())


def good_tokens(issuer, audience, keys, now):
    content = claims(issuer, audience, now)
    tokens = [(algorithm, sign(keys, content, algorithm)) for algorithm in ALGORITHMS]
    tokens += [
        ("at+jwt", sign(keys, content, header={"typ": "at+jwt"})),
        ("application/at+jwt", sign(keys, content, header={"typ": "application/at+jwt"})),
        ("no typ", sign_by_hand(keys.private["p256"], {"alg": "ES256", "kid": "p256"}, content)),
        ("no kid where one key fits", sign(keys, content, kid=None)),
        ("audience in a list", sign(keys, claims(issuer, ["elsewhere", audience], now))),
        ("times with fractions", sign(keys, claims(issuer, audience, now, exp=now + 600.5, iat=now - 0.5))),
        ("expired within the leeway", sign(keys, claims(issuer, audience, now, exp=now - 20))),
        ("no iat", sign(keys, claims(issuer, audience, now, iat=None))),
        ("a jku that is not followed", sign(keys, content, header={"jku": "http://127.0.0.1:1/jwks.json"})),
    ]
    return tokens


def _wrong_algorithms(issuer, audience, keys, now):
    content, key = claims(issuer, audience, now), keys.private["p256"]
    public_pem = keys.private["rsa"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_der = keys.private["rsa"].public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = b64_json(content)
    good = sign(keys, content)
    signature = good.rsplit(".", 1)[1]
    yield "alg none, no signature", b64_json({"alg": "none", "typ": "JWT"}) + "." + unsigned + "."
    yield "alg None, no signature", b64_json({"alg": "None", "typ": "JWT"}) + "." + unsigned + "."
    yield "alg none, somebody's signature", b64_json({"alg": "none", "typ": "JWT"}) + "." + unsigned + "." + signature
    yield "alg nOnE, signed all the same", sign_by_hand(key, {"alg": "nOnE", "kid": "p256"}, content)
    yield "no alg", sign_by_hand(key, {"kid": "p256"}, content)
    yield "alg in lower case", sign_by_hand(key, {"alg": "es256", "kid": "p256"}, content)
    yield "an unknown alg", sign_by_hand(key, {"alg": "ES257", "kid": "p256"}, content)
    yield "HS256 with the public key as PEM", sign_hmac(public_pem, {"alg": "HS256", "kid": "rsa"}, content)
    yield "HS256 with the public key as DER", sign_hmac(public_der, {"alg": "HS256", "kid": "rsa"}, content)
    yield "HS256 with the modulus", sign_hmac(keys.jwks["keys"][0]["n"].encode(), {"alg": "HS256", "kid": "rsa"}, content)
    yield "HS256 with an empty secret", sign_hmac(b"", {"alg": "HS256"}, content)
    yield "RS256 signed, PS256 said", _relabel(keys, content, "RS256", "PS256")
    yield "PS256 signed, RS256 said", _relabel(keys, content, "PS256", "RS256")
    yield "an EC key, RS256 said", sign_by_hand(key, {"alg": "RS256", "kid": "p256"}, content)
    yield "an EC key, EdDSA said", sign_by_hand(key, {"alg": "EdDSA", "kid": "p256"}, content)
    yield "P-256, ES384 said", sign_by_hand(key, {"alg": "ES384", "kid": "p256"}, content)
    yield "PS256 with a salt of another length", _short_salt(keys.private["rsa"], content)


def _relabel(keys, content, real, said):
    """Signed with one RSA scheme over a header that names the other."""
    text = b64_json({"alg": said, "kid": "rsa"}) + "." + b64_json(content)
    scheme = padding.PKCS1v15() if real == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    return text + "." + b64(keys.private["rsa"].sign(text.encode(), scheme, hashes.SHA256()))


def _short_salt(key, content):
    text = b64_json({"alg": "PS256", "kid": "rsa"}) + "." + b64_json(content)
    return text + "." + b64(key.sign(text.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 8), hashes.SHA256()))


def _wrong_keys(issuer, audience, keys, now):
    content = claims(issuer, audience, now)
    stranger = keys.private["stranger"]
    own_jwk = _public_jwk("p256", stranger, alg="ES256")
    yield "a stranger's key under a known kid", sign_by_hand(stranger, {"alg": "ES256", "kid": "p256"}, content)
    yield "a stranger's key without a kid", sign_by_hand(stranger, {"alg": "ES256"}, content)
    yield "a stranger's RSA key", jwt.encode(content, keys.private["stranger_rsa"], "RS256", headers={"kid": "rsa"})
    yield "an unknown kid", sign(keys, content, kid="nobody")
    yield "a kid that is a path", sign(keys, content, kid="../../../../dev/null")
    yield "a kid that is SQL", sign(keys, content, kid="p256' OR '1'='1")
    yield "a kid that is a number", sign_by_hand(keys.private["p256"], {"alg": "ES256", "kid": 1}, content)
    yield "a key brought along in jwk", sign_by_hand(stranger, {"alg": "ES256", "jwk": own_jwk}, content)
    yield "a key set named in jku", sign_by_hand(stranger, {"alg": "ES256", "kid": "p256", "jku": "http://127.0.0.1:1/"}, content)


def _wrong_signatures(issuer, audience, keys, now):
    content = claims(issuer, audience, now)
    good = sign(keys, content)
    header, payload, signature = good.split(".")
    text = header + "." + payload
    other = claims(issuer, audience, now, sub="mallory", roles=["admin"])
    yield "no signature", text + "."
    yield "the signature cut off", text
    yield "other claims under a good signature", header + "." + b64_json(other) + "." + signature
    yield "another header under a good signature", b64_json({"alg": "ES256", "kid": "p256", "x": 1}) + "." + payload + "." + signature
    yield "r = s = 0", text + "." + b64(bytes(64))
    yield "r and s beyond the order", text + "." + b64(b"\xff" * 64)
    yield "a signature in DER", text + "." + b64(_raw_es256(keys.private["p256"], text, der=True))
    yield "a signature one byte short", text + "." + b64(base64.urlsafe_b64decode(signature + "==")[:-1])
    yield "a signature one byte long", text + "." + b64(base64.urlsafe_b64decode(signature + "==") + b"\0")
    yield "one bit changed", text + "." + _flip(signature)


def _flip(signature):
    octets = bytearray(base64.urlsafe_b64decode(signature + "=="))
    octets[20] ^= 1
    return b64(bytes(octets))


def _wrong_form(issuer, audience, keys, now):
    content, key = claims(issuer, audience, now), keys.private["p256"]
    good = sign(keys, content)
    header, payload, signature = good.split(".")
    yield "padding", good + "="
    yield "four parts", good + ".AAAA"
    yield "an empty header", "." + payload + "." + signature
    yield "an empty payload", header + ".." + signature
    yield "standard base64", good[:8] + "+" + good[9:]
    yield "unused bits set", good[:-1] + _other_spelling(good[-1])
    yield "alg twice", sign_by_hand(key, '{"alg":"ES256","alg":"ES256","kid":"p256"}', content)
    yield "sub twice", sign_by_hand(key, {"alg": "ES256", "kid": "p256"}, json.dumps(content)[:-1] + ',"sub":"mallory"}')
    yield "claims that are a list", sign_by_hand(key, {"alg": "ES256", "kid": "p256"}, [content])
    yield "claims that are no JSON", sign_by_hand(key, {"alg": "ES256", "kid": "p256"}, "hello")
    nested = json.dumps(content)[:-1] + ',"x":' + "[" * 2000 + "]" * 2000 + "}"
    yield "claims nested deeply", sign_by_hand(key, {"alg": "ES256", "kid": "p256"}, nested)
    yield "a NUL in a claim", sign(keys, claims(issuer, audience, now, sub="alice\0"))
    yield "crit", sign_by_hand(key, {"alg": "ES256", "kid": "p256", "crit": ["exp"], "exp": now + 600}, content)
    yield "b64 false", sign_by_hand(key, {"alg": "ES256", "kid": "p256", "crit": ["b64"], "b64": False}, content)
    yield "another typ", sign(keys, content, header={"typ": "dpop+jwt"})
    yield "a typ that is a number", sign_by_hand(key, {"alg": "ES256", "kid": "p256", "typ": 1}, content)


def _other_spelling(digit):
    """Ed25519 and ES256 signatures end in a digit of which four bits are unused: another digit for the same bytes."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return digits[digits.index(digit) | 1]


def _wrong_claims(issuer, audience, keys, now):
    def with_claims(**changes):
        return sign(keys, claims(issuer, audience, now, **changes))

    yield "expired", with_claims(exp=now - 120, iat=now - 600)
    yield "no exp", with_claims(exp=None)
    as_text = claims(issuer, audience, now, exp=str(now + 600))
    yield "exp as text", sign_by_hand(keys.private["p256"], {"alg": "ES256", "kid": "p256"}, as_text)
    yield "not yet valid", with_claims(nbf=now + 300)
    yield "issued in the future", with_claims(iat=now + 300)
    yield "older than max_token_age", with_claims(iat=now - 25 * 3600, exp=now + 3600)
    yield "no iat and valid for a year", with_claims(iat=None, exp=now + 365 * 86400)
    yield "another issuer", with_claims(iss="https://evil.example")
    yield "the issuer with a slash more", with_claims(iss=issuer + "/")
    yield "no issuer", with_claims(iss=None)
    yield "another audience", with_claims(aud="elsewhere")
    yield "no audience", with_claims(aud=None)
    yield "an empty list of audiences", with_claims(aud=[])
    yield "no subject", with_claims(sub=None)
    yield "an empty subject", with_claims(sub="")
    yield "a subject that is a list", with_claims(sub=["alice"])
    yield "a line break in the subject", with_claims(sub="alice\nroot")
    yield "roles that are an object", with_claims(roles={"admin": True})


def forged_tokens(issuer, audience, keys, now):
    tokens = []
    for kind in (_wrong_algorithms, _wrong_keys, _wrong_signatures, _wrong_form, _wrong_claims):
        tokens += kind(issuer, audience, keys, now)
    return tokens
