"""Fetching a document: over TLS that is checked, within limits of time, past proxies for this machine."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.tenancy.issuer_server import DISCOVERY, local_issuer

from inhouse.tenancy import fetch
from inhouse.tenancy.fetch import FetchFailed, fetch_object, url_fault
from inhouse.tenancy.issuer import fetch_key_set
from inhouse.tenancy.oidc import OidcSettings


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local issuer")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "issuer.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def https(certificate: Path) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            host = self.headers["Host"]
            discovery = {"issuer": f"https://{host}", "jwks_uri": f"http://{host}/keys"}
            self.wfile.write(json.dumps({"seen": "over tls"} if self.path == "/" else discovery).encode())

        def log_message(self, format: str, *args: object) -> None:
            return None

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            return None  # a client that distrusts the certificate leaves in the middle of the handshake

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_certificate_is_checked_against_the_given_authority(https: str, certificate: Path) -> None:
    """With the company's own authority it is read, without it the connection is refused."""
    assert fetch_object(https, timeout_s=5, ca_file=certificate) == {"seen": "over tls"}
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_object(https, timeout_s=5)
    with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_object(https.replace("127.0.0.1", "localhost"), timeout_s=5, ca_file=certificate)


def test_keys_of_a_secure_issuer_are_not_fetched_in_the_clear(https: str, certificate: Path) -> None:
    """Not even from this machine: who listens on a port there is not the issuer."""
    accepted = OidcSettings(issuer=https.rstrip("/"), audiences=("a",), ca_file=certificate)
    with pytest.raises(FetchFailed, match="not an https address"):
        fetch_key_set(accepted)


def test_an_authority_file_that_is_none_is_a_failed_fetch(tmp_path: Path) -> None:
    """As when it was there at the start and was spoilt since."""
    authority = tmp_path / "ca.pem"
    with pytest.raises(FetchFailed, match="cannot be read: FileNotFoundError"):
        fetch_object("https://127.0.0.1:1/", timeout_s=5, ca_file=authority)
    authority.write_text("no certificate")
    with pytest.raises(FetchFailed, match="cannot be read: SSLError"):
        fetch_object("https://127.0.0.1:1/", timeout_s=5, ca_file=authority)


def test_a_document_has_a_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily its bytes come."""
    monkeypatch.setattr(fetch, "DOCUMENT_S_MAX", -1.0)
    with local_issuer() as issuer, pytest.raises(FetchFailed, match="took longer than"):
        fetch_object(issuer.url + DISCOVERY, timeout_s=5)


def test_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would look for an issuer on its own machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with local_issuer() as issuer:
        assert fetch_object(issuer.url + DISCOVERY, timeout_s=5)["issuer"] == issuer.url


def test_no_other_scheme_is_fetched(tmp_path: Path) -> None:
    """Neither files nor data in the address."""
    file = tmp_path / "keys.json"
    file.write_text("{}")
    for url in (file.as_uri(), "data:application/json,{}", "ftp://localhost/keys", "http://192.0.2.1/"):
        assert url_fault(url)
        with pytest.raises(FetchFailed, match=r"^the address"):
            fetch_object(url, timeout_s=5)
