"""Adds up what `huggingface_hub` tells its progress bars, file by file, into one `Progress`."""

from __future__ import annotations

from typing import Any

from inhouse.weights.wanted import Progress


class Meter:
    """Adds up the files of a model into one progress."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._before = 0
        self._done = 0

    def finish_file(self, size: int) -> None:
        self._before += size
        self._done = 0
        self._progress(self._before, self._total)

    def add(self, count: float | None) -> None:
        self._done += int(count or 0)
        self._progress(self._before + self._done, self._total)

    def bar(self) -> Any:
        """A class that the library takes for a tqdm bar and that draws nothing."""
        meter = self

        class Bar:
            def __init__(self, *args: object, total: int | None = None, initial: int = 0, **kwargs: object) -> None:
                self.total = total
                self.n = initial
                if initial:
                    meter.add(initial)

            def update(self, n: float | None = 1) -> None:
                self.n += int(n or 0)
                meter.add(n)

            def update_transfer(self, n: float | None = 1) -> None:
                """Bytes on the wire, where they differ from those of the file (Xet). Not shown."""

            def nothing(self, *args: object, **kwargs: object) -> None: ...

            set_postfix_str = set_transfer_postfix_str = set_description = refresh = close = nothing

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *exception: object) -> None: ...

        return Bar
