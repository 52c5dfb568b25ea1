"""Workers behind a queue, as their gateway sees them: what their engines are and can do, each worker knows itself."""

from __future__ import annotations

from inhouse.engines.engine import Engine

QUEUE = Engine(name="queue", title="workers behind a queue", metrics=())
