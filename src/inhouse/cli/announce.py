"""What `inhouse serve` prints as reports come in: address, key, a first request, what runs, what went wrong.

The same text on a terminal and in a pipe; colours and a spinner only on a terminal. With `--json`, one object a report.
Not with rich: whatever is imported here, the gateway carries as long as it lives.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from inhouse import __version__
from inhouse.cli.ink import Ink, Style
from inhouse.cli.phrases import base_url, curl, fetching, running, stopping
from inhouse.cli.spinner import Spinner
from inhouse.core import FetchReport, GatewayReport, KeyMinted, ReplicaReport, Report, WorkerReport

if TYPE_CHECKING:
    from inhouse.config import Stack

EVENTS = {
    GatewayReport: "gateway",
    WorkerReport: "worker",
    ReplicaReport: "replica",
    KeyMinted: "key",
    FetchReport: "fetch",
}
FETCH_STEPS = 10
"""Lines about one download, where there is no terminal to redraw."""


class Announcer:
    """Takes reports, prints them. A context manager: leaving it gives the terminal back.

    `chat` is the command that talks to this very gateway, as words; `{url}` among them stands for the address.
    """

    def __init__(self, stack: Stack, *, chat: list[str], as_json: bool) -> None:
        self._stack = stack
        self._chat = chat
        self._json = as_json
        self._ink = Ink.of(sys.stdout, os.environ)
        self._minted: KeyMinted | None = None
        self._hinted = False
        self._failures: dict[str, str] = {}
        self._busy: dict[str, str] = {}
        self._fetch_step: dict[str, int] = {}
        self._spinner = Spinner(sys.stdout) if sys.stdout.isatty() and not as_json else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._spinner:
            self._spinner.hide()

    def __call__(self, report: Report) -> None:
        if self._json:
            self._print_json(report)
        elif isinstance(report, FetchReport):
            self._fetch(report)
        else:
            if self._spinner:
                self._spinner.hide()
            if isinstance(report, KeyMinted):
                self._minted = report  # shown with the address, which it is good for
            elif isinstance(report, GatewayReport):
                self._gateway(report)
            elif isinstance(report, WorkerReport):
                self._worker(report)
            else:
                self._replica(report)
        if self._spinner and self._busy:
            self._spinner.show(", ".join(self._busy.values()))

    def _gateway(self, report: GatewayReport) -> None:
        if report.state == "listening":
            self._welcome(base_url(report.url))
            return
        self._busy.clear()
        self._say(
            "stopping" if report.state == "draining" else "stopped",
            stopping(report.open_requests) if report.state == "draining" else "",
            "yellow",
        )

    def _worker(self, report: WorkerReport) -> None:
        if report.state != "working":
            self._busy.clear()
            draining = report.state == "draining"
            self._say("stopping" if draining else "stopped", stopping(report.running) if draining else "", "yellow")
            return
        ink = self._ink
        _print(f"{ink('inhouse', 'bold')} {__version__} works for the queue at {ink(report.queue, 'bold cyan')}\n")
        self._say("models", ", ".join(report.models), "bold")
        if report.health_url:
            self._say("health", f"{report.health_url}/health/ready", "bold")
        self._say("stop", "Ctrl-C", "bold")

    def _welcome(self, url: str) -> None:
        key = self._minted.key if self._minted else None
        auth = self._stack.auth.enabled
        ink = self._ink
        _print(f"{ink('inhouse', 'bold')} {__version__} serves an OpenAI-compatible API at {ink(url, 'bold cyan')}\n")
        if key:
            self._say("key", key, "bold green")
            self._say("", "printed once; only its hash is kept; `inhouse keys create` makes another")
        elif auth:
            self._say("key", "`inhouse keys list` shows those that hold; `inhouse keys create` makes another", "bold")
        else:
            self._say("warning", "keys are off: every program on this machine may use the API", "bold yellow")
        self._say("chat", shlex.join(word.replace("{url}", url) for word in self._chat), "bold")
        if all(spec.source == "demo" for spec in self._stack.models.values()):
            self._say("models", "inhouse serve ./model.gguf (or hf://org/repo/file.gguf) serves a real one", "bold")
        self._say("docs", f"{url.removesuffix('/v1')}/docs", "bold")
        self._say("stop", "Ctrl-C", "bold")
        _print("\nA first request, to paste:\n")
        _print(curl(url, next(iter(self._stack.models)), key, auth=auth) + "\n")

    def _replica(self, report: ReplicaReport) -> None:
        model = report.model
        self._busy.pop(model, None)
        if report.state == "loading":
            self._busy[model] = f"loading {model} …"
            if not self._spinner:
                self._say("loading", f"{model} …")
        elif report.state == "restarting":
            self._busy[model] = f"loading {model} again …"
            self._say("restart", f"{model}: {report.reason or 'the engine ended'}", "bold yellow")
        elif report.state == "ready":
            self._failures.pop(model, None)
            self._say("ready", running(report), "bold green")
            if report.engine == "llamacpp" and not report.gpu:
                self._faster(model, native=report.native)
        elif report.state == "asleep":
            self._say("asleep", f"{report.endpoint or model}, until a request asks for it")
        elif report.state == "unreachable":
            self._say("lost", f"{report.endpoint} of {model}: {report.reason or 'no answer'}", "bold yellow")
        elif report.state == "failed":
            self._failure(model, report.reason or "no reason given")

    def _failure(self, model: str, reason: str) -> None:
        """Once for each reason: it is tried again and again, and the log has each time."""
        if self._failures.get(model) == reason:
            return
        self._failures[model] = reason
        self._say("failed", f"{model}: {reason}", "bold red")
        self._say("", f"requests for {model} are told 503; it is tried again by itself ({self._first_look(model)})")

    def _faster(self, model: str, *, native: bool) -> None:
        """Once: that a build for this machine would be faster."""
        spec = self._stack.models.get(model)
        if self._hinted or spec is None or spec.source == "demo" or spec.engine_binary or spec.engine_build != "auto":
            return
        from inhouse.engines.gpus import nvidia_driver_runs
        from inhouse.engines.hardware import look
        from inhouse.engines.llamacpp_gpu import devices_told
        from inhouse.engines.native import GPU, command, gains
        from inhouse.engines.native_here import lies_idle_for_gpus

        if devices_told(spec.engine_args) is not None:  # whose choice it is
            return
        self._hinted = True
        if lies_idle_for_gpus(os.environ):
            why = "no GPU of its kind answers, or it is of another version"
            self._say("warning", f"an engine for GPUs lies here, and {why}: `inhouse doctor hardware`", "bold yellow")
            return
        hardware = look(with_gpus=False)
        unused = gains(hardware.cpu, gpu=nvidia_driver_runs())
        unused = tuple(name for name in unused if name == GPU or not native)
        if unused and hardware.system.startswith("Linux "):
            self._say("faster", f"`{command(unused)}` makes an engine that uses {', '.join(unused)}", "bold")

    def _first_look(self, model: str) -> str:
        spec = self._stack.models.get(model)
        source = spec.source if spec else None
        return f"its source is {source}; `inhouse config show` has the rest" if source else "`inhouse config show`"

    def _fetch(self, report: FetchReport) -> None:
        self._busy[report.model] = f"fetching {fetching(report)}"
        if not self._spinner and report.total_bytes:
            step = FETCH_STEPS * report.done_bytes // report.total_bytes
            if step > self._fetch_step.get(report.model, -1):
                self._fetch_step[report.model] = step
                self._say("fetching", fetching(report))

    def _say(self, label: str, text: str, style: Style = "") -> None:
        _print(f"  {self._ink(f'{label:<9}' if text else label, style)}{text}")

    def _print_json(self, report: Report) -> None:
        event: dict[str, object] = {"event": EVENTS[type(report)], **asdict(report)}
        if isinstance(report, GatewayReport) and report.url:
            event["base_url"] = base_url(report.url)
        _print(json.dumps(event, ensure_ascii=False))


def _print(text: str) -> None:
    """Where whoever read has gone (`inhouse serve | head`), the gateway goes on without a word."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
