"""SASL DIGEST-MD5 (RFC 2831), the client's side: how ZooKeeper authenticates by password.

Only authentication (qop "auth"), no protection of what follows; TLS does that.
"""

import hashlib
import os
import re

_PAIR = re.compile(r'\s*([a-zA-Z-]+)\s*=\s*("((?:[^"\\]|\\.)*)"|[^,\s]*)\s*,?')
_ESCAPED = re.compile(r"\\(.)")


class DigestMd5Error(Exception):
    """The server's challenge cannot be answered, or its proof is wrong."""


def read_challenge(challenge: bytes) -> dict[str, str]:
    """The directives of a challenge by name. Raises DigestMd5Error."""
    found: dict[str, str] = {}
    text, at = challenge.decode("utf-8", "replace"), 0
    while at < len(text.rstrip()):
        match = _PAIR.match(text, at)
        if match is None:
            raise DigestMd5Error(f"the challenge is not understood: {text!r}")
        quoted = match[3]
        found[match[1].lower()] = match[2] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        at = match.end()
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _octets(text: str) -> bytes:
    """As the secret is made: in ISO 8859-1 where that is possible, whatever the charset says."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


class DigestMd5:
    """One authentication of `username`: answer the challenge, then verify the server's proof."""

    def __init__(self, username: str, password: str, digest_uri: str, cnonce: str = "") -> None:
        self._username = username
        self._password = password
        self._uri = digest_uri
        self._cnonce = cnonce or os.urandom(16).hex()
        self._proof = ""

    def answer(self, challenge: bytes) -> bytes:
        """The response to the first challenge. Raises DigestMd5Error."""
        offered = read_challenge(challenge)
        if offered.get("algorithm") != "md5-sess" or "nonce" not in offered:
            raise DigestMd5Error("the challenge is not one of DIGEST-MD5")
        if "auth" not in re.split(r"[\s,]+", offered.get("qop", "auth")):
            raise DigestMd5Error("the server demands protection of the connection by SASL")
        realm, nonce = offered.get("realm", ""), offered["nonce"]
        self._proof = self._digest("", realm, nonce)
        fields = {
            "charset": "utf-8",
            "username": _quoted(self._username),
            "realm": _quoted(realm),
            "nonce": _quoted(nonce),
            "nc": "00000001",
            "cnonce": _quoted(self._cnonce),
            "digest-uri": _quoted(self._uri),
            "response": self._digest("AUTHENTICATE", realm, nonce),
            "qop": "auth",
        }
        return ",".join(f"{name}={value}" for name, value in fields.items()).encode()

    def verify(self, proof: bytes) -> None:
        """Check that the server knows the password too. Raises DigestMd5Error."""
        if read_challenge(proof).get("rspauth") != self._proof:
            raise DigestMd5Error("the server could not prove that it knows the password")

    def _digest(self, method: str, realm: str, nonce: str) -> str:
        parts = (_octets(self._username), _octets(realm), _octets(self._password))
        secret = hashlib.md5(b":".join(parts)).digest()
        a1 = hashlib.md5(secret + f":{nonce}:{self._cnonce}".encode()).hexdigest()
        a2 = hashlib.md5(f"{method}:{self._uri}".encode()).hexdigest()
        return hashlib.md5(f"{a1}:{nonce}:00000001:{self._cnonce}:auth:{a2}".encode()).hexdigest()
