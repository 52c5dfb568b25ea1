"""Wires the fleet of one model whose replicas run elsewhere. A part of `runtime`, which is the only one to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from inhouse.config import ModelSpec, Stack
from inhouse.core import ReplicaReport
from inhouse.dispatch.lane import Lane
from inhouse.engines import addresses
from inhouse.engines.discovery import Listed, Resolved, Source
from inhouse.engines.fleet import Fleet
from inhouse.engines.http import Address
from inhouse.engines.member import Member
from inhouse.engines.remote import Remote, Watch
from inhouse.engines.tls import Files, trusting
from inhouse.errors import StackError

_KEY_BYTES_MAX = 16 * 1024


def fleet_of(
    stack: Stack,
    lane: Lane,
    spec: ModelSpec,
    environ: Mapping[str, str],
    tell: Callable[[ReplicaReport], None],
    fault: Callable[[BaseException], None],
    trouble: Callable[[str], None],
) -> Fleet:
    """The fleet of a model, not yet running. Raises StackError where a key or a certificate cannot be had."""
    watch = Watch(
        interval_s=spec.probe.interval,
        timeout_s=spec.probe.timeout,
        failures=spec.probe.failures,
        connect_s_max=spec.probe.connect_timeout,
        silence_s_max=spec.idle_timeout,
        figures_s_max=spec.routing.figures_max_age,
    )
    key = key_of(spec, environ, f"models.{lane.model}.api_key")
    key()  # one that is not there is a mistake to be told before all else

    def make(name: str, address: Address) -> Remote:
        member = Member(name, lane.engine, spec.slots or lane.engine.slots)
        return Remote(
            lane.model,
            member,
            address,
            watch,
            report=tell,
            key=key,
            slots_given=spec.slots is not None,
            upstream_model=spec.upstream_model,
        )

    return Fleet(_sources(stack, lane, spec, environ), make, lane.places, fault=fault, trouble=trouble)


def _sources(stack: Stack, lane: Lane, spec: ModelSpec, environ: Mapping[str, str]) -> list[Source]:
    files = Files(ca=spec.ca_file, cert=spec.cert_file, key=spec.key_file)
    setting = f"models.{lane.model}.{'ca_file' if spec.cert_file is None else 'cert_file'}"
    # the system's authorities take memory, and most engines have no use for them
    secured = files != Files() or any("https://" in text for text in spec.endpoints)
    tls = trusting(files, setting) if secured else None
    listed: dict[str, Address] = {}
    sources: list[Source] = []
    for text in spec.endpoints:
        found = addresses.read(text, tls, spec.server_name)
        if isinstance(found, addresses.Name) and found.scheme == "k8s":
            from inhouse.engines.kubernetes import EndpointSlices, cluster_of

            where = stack.kubernetes
            cluster = cluster_of(environ, where.api, where.token_file, where.ca_file)
            sources.append(EndpointSlices(cluster, found, tls))
        elif isinstance(found, addresses.Name):
            sources.append(Resolved(found, tls, interval_s=spec.probe.resolve_interval))
        else:
            listed[found[0]] = found[1]
    return [Listed(listed), *sources]


def key_of(spec: ModelSpec, environ: Mapping[str, str], where: str) -> Callable[[], str | None]:
    """Asks for the key that the endpoints want. A file is read each time: who rotates keys writes it anew."""
    reference = spec.api_key
    if reference is None:
        return lambda: None
    kind, _, rest = reference.partition(":")

    def from_environment() -> str:
        return _checked(environ.get(rest, ""), f"the variable {rest} is not set or empty", where)

    def from_file() -> str:
        try:
            with Path(rest).open(encoding="latin-1") as file:
                text = file.read(_KEY_BYTES_MAX)
        except OSError as error:
            raise StackError(f"the key in {rest} cannot be read: {error.strerror}", where=where) from None
        return _checked(text.strip(), f"the file {rest} is empty", where)

    return from_environment if kind == "env" else from_file


def _checked(key: str, lacking: str, where: str) -> str:
    if not key:
        raise StackError(lacking, where=where, hint="it holds the key that the endpoints of the model ask for")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise StackError("the key has characters that a header cannot carry", where=where)
    return key
