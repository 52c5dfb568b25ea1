"""The keys of one issuer: fetched beside the event loop, kept for a while, never trusted for longer.

Theory of operation. `refresh`, called about once a second, takes in what a fetch has brought and starts the next one
when it is due; a fetch runs in a thread and hands over its result through a queue, so only the caller's thread ever
changes the state.

    pending ──fetched──▶ ready ──ttl──▶ stale ──grace──▶ lost
                           ▲───────────fetched───────────┘

After a success the next fetch is due at four fifths of the ttl, after a failure in 1, 2, 4, 8 and then every 10 s. A
token with an unknown key id makes a fetch due at once, but never sooner than 10 s after the last one began, however
many such tokens come. `pending` and `lost` refuse every token with 503; `ready` and `stale` serve.

Not here: what a key set is (`jwk`), limits of a fetch (`fetch`).
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable

import jwt

from inhouse.errors import Unauthorized, Unavailable
from inhouse.tenancy.fetch import FetchFailed, fetch_object, url_fault
from inhouse.tenancy.jwk import KeySet, parse_key_set
from inhouse.tenancy.oidc import IssuerReport, OidcSettings, State

UNKNOWN_KEY_S = 10.0
"""The least time between two fetches that tokens with unknown key ids bring about."""
RETRY_S_MAX = 10.0
FETCH_S_MAX = 60.0
"""A fetch that has not come back after this is given up for lost, and another may start."""
_AHEAD = 0.8

Run = Callable[[Callable[[], None]], None]


def in_thread(work: Callable[[], None]) -> None:
    """A daemon thread: an issuer that hangs never keeps the process from ending."""
    threading.Thread(target=work, daemon=True, name="oidc").start()


class IssuerKeys:
    """Keys of `settings.issuer`. `monotonic` drives it, `run` starts the blocking work; all else is synchronous."""

    def __init__(self, settings: OidcSettings, *, monotonic: Callable[[], float], run: Run = in_thread) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._run = run
        self._landed: queue.SimpleQueue[tuple[float, KeySet | FetchFailed]] = queue.SimpleQueue()
        self._keys: KeySet | None = None
        self._fetched_s = -math.inf
        self._started_s = -math.inf
        self._in_flight = False
        self._due_s = -math.inf
        self._failures = 0
        self._reason: str | None = None
        self._was_lost = False
        self.version = 0
        """Grows whenever a key that was served is served no longer."""

    def refresh(self) -> None:
        """Take in what has been fetched, start a fetch if one is due."""
        self._collect()
        now_s = self._monotonic()
        if self._in_flight and now_s - self._started_s >= FETCH_S_MAX:
            self._in_flight = False
        if not self._in_flight and now_s >= self._due_s:
            self._start(now_s)
            self._collect()
        lost = self.state == "lost"
        if lost and not self._was_lost:
            self.version += 1
        self._was_lost = lost

    def key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """The key for a token's header. Raises `Unavailable` where that cannot be known now, else `Unauthorized`."""
        self._collect()
        if self._keys is None or self.state == "lost":
            self.refresh()  # the clock may have stood still, as on a laptop that slept
        if self._keys is None or self.state == "lost":
            raise Unavailable(
                "tokens cannot be checked now, the issuer's keys have not been fetched; the gateway's log says why",
                retry_after_s=self._next_s(),
            )
        found = self._keys.find(key_id, algorithm)
        if found is None and key_id is not None and key_id not in self._keys.ids:
            found = self._unknown(key_id, algorithm)
        if found is None:
            raise Unauthorized("this token is signed with a key that its issuer does not publish for signatures")
        return found

    @property
    def good_for_s(self) -> float:
        """How long the present keys would serve if no fetch succeeded any more."""
        return self._fetched_s + self._settings.jwks_ttl_s + self._settings.jwks_grace_s - self._monotonic()

    @property
    def state(self) -> State:
        return self.report().state

    def report(self) -> IssuerReport:
        good_s = self.good_for_s
        keys = 0 if self._keys is None else len(self._keys.prints)
        if self._keys is None:
            return IssuerReport(self._settings.issuer, "pending", keys, self._reason)
        if good_s <= 0:
            return IssuerReport(self._settings.issuer, "lost", keys, self._reason)
        fresh = good_s > self._settings.jwks_grace_s
        return IssuerReport(self._settings.issuer, "ready" if fresh else "stale", keys, self._reason)

    def _unknown(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """A key that may be new: fetched at once if the last fetch is long enough ago. None: it is not published."""
        asked_s = self._fetched_s
        self._due_s = min(self._due_s, self._started_s + UNKNOWN_KEY_S)
        self.refresh()
        if self._fetched_s > asked_s and self._keys is not None:  # the fetch did not need a thread
            return self._keys.find(key_id, algorithm)
        if not self._in_flight and self._monotonic() - self._fetched_s < UNKNOWN_KEY_S:
            return None
        raise Unavailable(
            "this token is signed with a key that is not known here yet; the issuer is being asked",
            retry_after_s=self._next_s(),
        )

    def _next_s(self) -> float:
        return 1.0 if self._in_flight else max(1.0, math.ceil(self._due_s - self._monotonic()))

    def _start(self, now_s: float) -> None:
        self._in_flight = True
        self._started_s = now_s

        def work() -> None:
            try:
                result: KeySet | FetchFailed = fetch_key_set(self._settings)
            except FetchFailed as failed:
                result = failed
            except Exception as error:  # noqa: BLE001 - handed to the owner: a fault must not end in silence
                result = FetchFailed(f"an internal error while keys were fetched: {type(error).__name__}")
            self._landed.put((now_s, result))

        try:
            self._run(work)
        except RuntimeError:  # the system has no thread left: like any other failure, tried again later
            self._landed.put((now_s, FetchFailed("no thread could be started to fetch keys")))

    def _collect(self) -> None:
        while not self._landed.empty():
            started_s, result = self._landed.get_nowait()
            if started_s < self._started_s:
                continue  # given up for lost before, and another is on its way
            self._in_flight = False
            if isinstance(result, KeySet):
                self._take(result, started_s)
            else:
                self._failures += 1
                self._reason = str(result)
                self._due_s = self._monotonic() + min(RETRY_S_MAX, 2.0 ** min(self._failures - 1, 10))

    def _take(self, keys: KeySet, started_s: float) -> None:
        if self._keys is not None and self._keys.prints - keys.prints:
            self.version += 1
        self._keys = keys
        self._fetched_s = started_s
        self._due_s = started_s + _AHEAD * self._settings.jwks_ttl_s
        self._failures = 0
        self._reason = None


def fetch_key_set(settings: OidcSettings) -> KeySet:
    """Discovery, then the keys that it names (OpenID Connect Discovery 1.0, 4). It blocks. Raises `FetchFailed`."""
    where = settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
    discovery = fetch_object(where, timeout_s=settings.fetch_timeout_s, ca_file=settings.ca_file)
    if discovery.get("issuer") != settings.issuer:  # 4.3: must be identical
        raise FetchFailed(f"{where} speaks for another issuer than the one in the settings")
    address = discovery.get("jwks_uri")
    if not isinstance(address, str):
        raise FetchFailed(f"{where} names no `jwks_uri`")
    if url_fault(address) or (settings.issuer.startswith("https:") and not address.startswith("https:")):
        raise FetchFailed(f"{where} names a `jwks_uri` that is not an https address")
    document = fetch_object(address, timeout_s=settings.fetch_timeout_s, ca_file=settings.ca_file)
    try:
        return parse_key_set(document, settings.algorithms)
    except ValueError as error:
        raise FetchFailed(f"{address} is not a key set: {error}") from None
