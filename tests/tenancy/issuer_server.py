"""A real issuer of tokens on a free port: discovery, key set, and tokens signed by hand, so that they can be forged."""

from __future__ import annotations

import functools
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

NOW = 1_800_000_000.0
AUDIENCE = "inhouse"
DISCOVERY = "/.well-known/openid-configuration"


class Clock:
    """Wall clock and monotonic clock in one, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: object) -> str:
    return b64(json.dumps(value).encode())


@functools.cache
def private_key(kind: str, number: int = 0) -> Private:
    """The same key for the same arguments: making RSA keys is slow."""
    if kind.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 1024 if kind == "RSA1024" else 2048)
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def sign(algorithm: str, key: Private, message: bytes) -> bytes:
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}.get(algorithm[-3:])
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    assert digest is not None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        return b"".join(n.to_bytes(size) for n in decode_dss_signature(key.sign(message, ec.ECDSA(digest))))
    if algorithm.startswith("PS"):
        return key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return key.sign(message, padding.PKCS1v15(), digest)


def hmac_sign(secret: bytes, message: bytes) -> bytes:
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(message)
    return mac.finalize()


def public_pem(key: Private) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def jwk(key: Private, **more: object) -> dict[str, object]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        entry: dict[str, object] = {"kty": "RSA", "n": b64(numbers.n.to_bytes(size)), "e": b64(numbers.e.to_bytes(3))}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point, size = public.public_numbers(), (public.key_size + 7) // 8
        entry = {"kty": "EC", "crv": f"P-{public.key_size}"}
        entry |= {"x": b64(point.x.to_bytes(size)), "y": b64(point.y.to_bytes(size))}
    else:
        entry = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    return entry | more


class LocalIssuer:
    """`keys` is what is published, `answers` replaces what a path answers: (status, headers, body)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: list[dict[str, object]] = []
        self.discovery: dict[str, object] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []

    def publish(self, *kinds: str, number: int = 0) -> None:
        """Exactly these kinds of keys, with the kind and number as key id."""
        self.keys = [jwk(private_key(kind, number), kid=f"{kind}-{number}", use="sig") for kind in kinds]

    def claims(self, **more: object) -> dict[str, object]:
        """Good for five minutes; a claim of None is left out."""
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "mia@example.org", "exp": NOW + 300, "tenant": "acme"} | more
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, kind: str = "ES256", *, number: int = 0, header: dict[str, Any] | None = None, **claims: object
    ) -> str:
        full = {"alg": kind, "kid": f"{kind}-{number}"} | (header or {})
        head = part({name: value for name, value in full.items() if value is not None})
        message = f"{head}.{part(self.claims(**claims))}"
        return f"{message}.{b64(sign(kind, private_key(kind, number), message.encode()))}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        documents: dict[str, Callable[[], object]] = {
            DISCOVERY: lambda: self.discovery,
            "/keys": lambda: {"keys": self.keys},
        }
        if path not in documents:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(documents[path]()).encode()

    def down(self) -> None:
        self.answers = {DISCOVERY: (503, {}, b"")}

    def up(self) -> None:
        self.answers = {}


@contextmanager
def local_issuer() -> Iterator[LocalIssuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = issuer.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = LocalIssuer(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
