"""Upstreams that want a key, speak https, or take a connection and never answer."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rawhttp import ask, post, until

from fleet import Fakes, Load, Start, chat, seen, stack, together
from serving import Gateway

SECRET = "upstream-secret-0123456789"
Upstreams = Callable[..., "Upstream"]


class Upstream:
    """An OpenAI-like server of the test's own, with TLS where it is given a context. It remembers what it was sent."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.authorizations: set[str | None] = set()
        self.refuses = 0
        """The status with which it refuses, telling the key that it was sent."""
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(200, b'{"object":"list","data":[{"id":"demo"}]}')

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if upstream.refuses:
                    told = {"error": {"message": f"bad key {self.headers['authorization']}", "type": "x"}}
                    self._answer(upstream.refuses, json.dumps(told).encode())
                    return
                base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
                delta = [{"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None}]
                end = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                events = [base | {"choices": delta}, base | {"choices": end}, base | {"choices": [], "usage": usage}]
                text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
                message = {"role": "assistant", "content": "hello"}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                whole = base | {"object": "chat.completion", "choices": choices, "usage": usage}
                self._answer(200, text.encode() if asked.get("stream") else json.dumps(whole).encode())

            def _answer(self, status: int, body: bytes) -> None:
                upstream.authorizations.add(self.headers["authorization"])
                self.send_response(status)
                kind = "text/event-stream" if body.startswith(b"data") else "application/json"
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'' if tls is None else 's'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@pytest.fixture
def upstream() -> Iterator[Upstreams]:
    made: list[Upstream] = []

    def make(tls: ssl.SSLContext | None = None) -> Upstream:
        made.append(Upstream(tls))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Authority:
    """A certificate authority of one's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of one's own")])
        certificate = self._signed(self._name, self._key, authority=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, ip: str) -> ssl.SSLContext:
        """What a server at this address presents."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ip)])
        certificate = self._signed(name, key, ip=ip)
        file = self._folder / f"server-{ip}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False, ip: str = ""
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if ip:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address(ip))]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def listed(gateway: Gateway) -> dict[str, Any]:
    """`inhouse endpoints list`, by the endpoints' ids."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    command = [sys.executable, "-m", "inhouse", "endpoints", "list", "--json", "--base-url", gateway.base_url]
    done = subprocess.run(
        [*command, "--state-dir", str(gateway.state_dir)], env=environ, capture_output=True, text=True, check=True
    )
    return {row["id"]: row for row in json.loads(done.stdout)["endpoints"]}


def test_a_key_reaches_the_upstream(upstream: Upstreams, start: Start, tmp_path: Path) -> None:
    """With every request and every probe, and nothing else sees it: no error, story or log, even where the upstream
    sends it back."""
    server = upstream()
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    gateway = start(stack([server.url], f'api_key: "file:{secret}"', engine="openai"), ready=1)
    assert ask(gateway, post(chat())).status == 200
    assert server.authorizations == {f"Bearer {SECRET}"}
    told = b""
    for status in (400, 401, 429, 500):
        server.refuses = status
        answer = ask(gateway, post(chat(), f"x-request-id: refused-{status}"))
        assert answer.status in (400, 502, 503)
        told += answer.body + json.dumps(gateway.get(f"/admin/requests/refused-{status}")).encode()
    gateway.stop()
    assert b"bad key" in told
    assert SECRET.encode() not in told
    assert SECRET not in "".join(gateway.log) + json.dumps(gateway.events)


def test_https_with_an_authority_of_ones_own(upstream: Upstreams, start: Start, tmp_path: Path) -> None:
    """`ca_file` names it, and then its servers are engines like any other."""
    authority = Authority(tmp_path)
    server = upstream(authority.server("127.0.0.1"))
    gateway = start(stack([server.url], f"ca_file: {authority.file}", engine="openai"), ready=1)
    assert ask(gateway, post(chat())).status == 200


@pytest.mark.parametrize(("ip", "trusted", "why"), [("127.0.0.1", False, "issuer"), ("127.0.0.9", True, "mismatch")])
def test_a_wrong_certificate(
    upstream: Upstreams, start: Start, tmp_path: Path, ip: str, trusted: bool, why: str
) -> None:
    """One of a stranger, or of another address: nothing goes there, and the list of endpoints says why."""
    authority = Authority(tmp_path)
    server = upstream(authority.server(ip))
    gateway = start(stack([server.url], f"ca_file: {authority.file}" if trusted else "", engine="openai"), ready=0)
    gateway.wait_for(event="replica", state="unreachable")
    (row,) = listed(gateway).values()
    assert row["state"] == "unreachable"
    assert "certificate" in row["reason"]
    assert why in row["reason"]
    assert "ca_file" in row["reason"]
    assert ask(gateway, post(chat())).status == 503
    assert server.authorizations == set()


RETRIES = "idle_timeout: 1 s, routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"


def test_an_engine_that_takes_requests_and_never_answers(fakes: Fakes, start: Start) -> None:
    """Its health is good, its requests go on elsewhere after `idle_timeout`, and its breaker leaves it out: a line in
    the log and a count say so."""
    good, dumb = fakes(2, slots=8)
    gateway = start(
        stack([good, dumb], RETRIES.replace("retries", "breaker: {failures: 2}, retries"), slots=8), ready=2
    )
    dumb.set(half_open_rate=1)
    answers = together(gateway, [chat(f"{number}", max_tokens=1, stream=True) for number in range(12)])
    assert [answer.status for answer in answers] == [200] * 12
    name = dumb.url.removeprefix("http://")
    until(lambda: any("endpoint left out" in line and name in line for line in gateway.log), "it is told")
    (line, *_) = [json.loads(line) for line in gateway.log if "endpoint left out" in line]
    assert (line["model"], line["endpoint"], line["reason"]) == ("demo", name, "2 failures in a row")
    page = ask(gateway, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").body.decode()
    assert f'inhouse_endpoint_ejections_total{{endpoint="{name}",model="demo",reason="breaker"}}' in page


@pytest.mark.parametrize(
    ("stream", "more", "code"),
    [(True, "idle_timeout: 1 s", "engine_timeout"), (False, "total_timeout: 2 s", "total_timeout")],
)
def test_only_an_engine_that_never_answers(fakes: Fakes, start: Start, stream: bool, more: str, code: str) -> None:
    """No client hangs: a stream is given up after `idle_timeout`, a whole answer, of which nothing could be heard yet,
    after `total_timeout`; and the slot is free again."""
    (dumb,) = fakes(1, slots=1)
    gateway = start(stack([dumb], more, slots=1), ready=1)
    dumb.set(half_open_rate=1)
    answer = ask(gateway, post(chat(stream=stream)))
    assert (answer.status, answer.code) == (504, code)
    dumb.set(half_open_rate=0)
    until(lambda: ask(gateway, post(chat(stream=True))).status == 200, "it serves again")


def test_a_port_that_accepts_and_says_nothing(fakes: Fakes, start: Start) -> None:
    """Its health check fails with a reason; the others serve."""
    (good,) = fakes(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gateway = start(stack([good.url, url], RETRIES), ready=1)
        with Load(gateway, 4, chat(max_tokens=1)) as load:
            gateway.wait_for(event="replica", state="unreachable")
            until(lambda: load.total > 50, "it runs")
        assert load.answers.keys() == {200}, (load.answers, load.odd[:3])
        row = listed(gateway)[url.removeprefix("http://")]
    assert (row["state"], "no answer to /health within 0.5 s" in row["reason"]) == ("unreachable", True)
    assert seen(good) >= 50
