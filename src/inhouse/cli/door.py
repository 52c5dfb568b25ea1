"""`inhouse door`: TLS in front of an engine that has none, for those with the right certificate."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import examples

EXAMPLES = examples(
    "inhouse door --engine 127.0.0.1:8001 --cert tls.crt --key tls.key --ca ca.crt",
    "inhouse door --engine unix:/run/engine.sock --cert tls.crt --key tls.key --ca ca.crt --client gateway.internal",
    "inhouse door --cert tls.crt --key tls.key --ca ca.crt --open-port 8002 --open /health --open /metrics",
)


def door(
    cert: Annotated[Path, typer.Option(metavar="FILE", help="The door's certificate, with its chain (PEM).")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The key of that certificate (PEM).")],
    ca: Annotated[Path, typer.Option(metavar="FILE", help="Authorities whose certificates may enter (PEM).")],
    engine: Annotated[
        str, typer.Option(metavar="WHERE", help="The engine: host:port, or unix:/path.")
    ] = "127.0.0.1:8001",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the door is.")] = "0.0.0.0:8000",
    client: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A DNS name of certificates that may enter; without any, all may. Repeatable."
        ),
    ] = None,
    open_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="A port without TLS for probes and scrapers.")
    ] = None,
    open_: Annotated[
        list[str] | None, typer.Option("--open", metavar="PATH", help="A page of that port, by GET. Repeatable.")
    ] = None,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long open connections may go on after SIGTERM.")
    ] = 30.0,
) -> None:
    """Stand in front of an engine: TLS outside, the engine's plain HTTP on this machine's loopback inside.

    Only those who show a certificate of `--ca` are let in. Files that change are read again; connections that are open
    stay. The gateway's side of it are `ca_file`, `cert_file` and `key_file` of a model.
    """
    from inhouse.engines.door import Settings
    from inhouse.engines.door_program import run
    from inhouse.engines.http import Address
    from inhouse.engines.tls import Files, in_front_of_an_engine

    host, port = _place(listen, "--listen")
    if engine.startswith("unix:"):
        where = Address(socket=engine.removeprefix("unix:"))
    else:
        engine_host, engine_port = _place(engine, "--engine")
        where = Address(host=engine_host, port=engine_port)
    settings = Settings(
        host=host,
        port=port,
        engine=where,
        clients=frozenset(client or ()),
        pages=frozenset(path.encode() for path in open_ or ()),
        pages_port=open_port,
        drain_s=drain,
    )
    raise typer.Exit(run(settings, in_front_of_an_engine(Files(ca=ca, cert=cert, key=key)), _tell))


def _place(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is no host:port", param_hint=option)
    return host.strip("[]"), int(port)


def _tell(event: str, **fields: object) -> None:
    """One line of JSON on standard error, as all logs."""
    level = "warning" if event == "door closed" else "info"
    typer.echo(json.dumps({"time": round(time.time(), 3), "level": level, "event": event, **fields}), err=True)
