"""A development issuer: signing keys, their public key set, and tokens with whatever a test wants in them."""
import json
import time

import tokens


class Issuer:
    def __init__(self, name="https://login.tests.example", audience="inference"):
        self.name, self.audience = name, audience
        self.keys = tokens.make_keys()

    def jwks_text(self):
        return json.dumps(self.keys.jwks)

    def token(self, algorithm="ES256", typ="JWT", **changes):
        """A good token, unless `changes` to its claims make it a bad one; None takes a claim out."""
        content = tokens.claims(self.name, self.audience, int(time.time()), **{"roles": ["user"], **changes})
        return tokens.sign(self.keys, content, algorithm, {"typ": typ} if typ else {})

    def good_tokens(self):
        return tokens.good_tokens(self.name, self.audience, self.keys, int(time.time()))

    def forged_tokens(self):
        return tokens.forged_tokens(self.name, self.audience, self.keys, int(time.time()))
