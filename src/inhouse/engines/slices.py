"""EndpointSlices of one Service, folded into the addresses that are ready. Pure: JSON lines in, addresses out.

A Service may have several slices, and an address may stand in two of them while it moves. An endpoint counts as ready
unless its condition `ready` is false (null means ready, says the API); one that terminates is not ready any more, keeps
serving what it has, and so is one to drain.

A dual-stack Service has each pod twice, in slices of IPv4 and of IPv6. One family counts: IPv4 where any endpoint has
it, ready or not, so that a pod that starts or ends does not change the family.
"""

from __future__ import annotations

import msgspec

LINE_BYTES_MAX = 8 * 1024 * 1024


class WatchExpired(Exception):
    """The version to go on from is too old (410): the slices must be listed again."""


class WatchRefused(Exception):
    """The API server ends the watch with an error; the text names its code and reason."""


class _Conditions(msgspec.Struct):
    ready: bool | None = None


class _Endpoint(msgspec.Struct):
    addresses: list[str] = []
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)


class _Port(msgspec.Struct):
    name: str | None = None
    port: int | None = None


class _Meta(msgspec.Struct):
    name: str = ""
    resourceVersion: str = ""  # noqa: N815 - the API's own name


class _Slice(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None
    addressType: str = "IPv4"  # noqa: N815


class _List(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[_Slice] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""


_list = msgspec.json.Decoder(_List)
_event = msgspec.json.Decoder(_Event)
_slice = msgspec.json.Decoder(_Slice)
_status = msgspec.json.Decoder(_Status)


class Slices:
    """The slices of a Service. `port` is the name of a port of the Service, or a number that all pods listen on.

    `version` is where a watch goes on from; "" until there is a list.
    """

    def __init__(self, port: str) -> None:
        self.version = ""
        self._port = port
        self._slices: dict[str, _Slice] = {}

    def replace(self, body: bytes) -> None:
        """A whole list, which takes the place of all that was known. Raises msgspec.DecodeError."""
        found = _list.decode(body)
        self._slices = {each.metadata.name: each for each in found.items or []}
        self.version = found.metadata.resourceVersion

    def apply(self, line: bytes) -> bool:
        """One line of a watch. True: the addresses may be others now.

        Raises:
            WatchExpired: list again.
            WatchRefused: any other error of the API server.
            msgspec.DecodeError: it is no event.
        """
        event = _event.decode(line)
        if event.type == "ERROR":
            status = _status.decode(event.object)
            if status.code == 410:
                raise WatchExpired
            raise WatchRefused(f"{status.code} {status.reason}".strip())
        each = _slice.decode(event.object)
        if each.metadata.resourceVersion:
            self.version = each.metadata.resourceVersion
        if event.type in ("ADDED", "MODIFIED"):
            self._slices[each.metadata.name] = each
        elif event.type == "DELETED":
            self._slices.pop(each.metadata.name, None)
        else:  # BOOKMARK, and what later versions may add
            return False
        return True

    def ready(self) -> dict[tuple[str, int], None]:
        """The addresses that take requests, of one family, in the order of the slices."""
        found: dict[str, dict[tuple[str, int], None]] = {}
        for each in self._slices.values():
            port = self._port_of(each)
            if port is None:
                continue
            for endpoint in each.endpoints or []:
                if endpoint.addresses:
                    ready = found.setdefault(each.addressType, {})
                    if endpoint.conditions.ready is not False:
                        ready[(endpoint.addresses[0], port)] = None  # the others are alternatives, not more of them
        return found["IPv4"] if "IPv4" in found else found.get("IPv6", {})

    def _port_of(self, each: _Slice) -> int | None:
        if self._port.isdigit():
            return int(self._port)
        return next((port.port for port in each.ports or [] if (port.name or "") == self._port), None)
