"""The audit on disk: one chain for all processes, whole after any death; what somebody takes away is missed."""

from __future__ import annotations

import json
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.errors import StateError
from inhouse.store.audit_chain import Head
from inhouse.store.audit_files import DAY_S, AuditFiles
from inhouse.store.audit_read import Verdict, newest, oldest, verify

NOON = 20_000 * DAY_S + 43_200.0


class Clock:
    def __init__(self) -> None:
        self.now_s = NOON

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def opened(folder: Path, clock: Clock | None = None, *, largest: int = 1 << 20, days: int = 3) -> Iterator[AuditFiles]:
    files = AuditFiles(folder, segment_bytes_max=largest, keep_s=days * DAY_S, clock=clock or Clock())
    try:
        yield files
    finally:
        files.close()


def bodies(*names: object) -> list[bytes]:
    return [json.dumps({"time": 1, "name": name}).encode() for name in names]


def names(folder: Path) -> list[Any]:
    return [record.get("name", record.get("act")) for record in map(json.loads, oldest(folder))]


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "audit").glob("*.jsonl"))


def whole(folder: Path) -> Verdict:
    verdict = verify(folder)
    assert verdict.problems == ()
    return verdict


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Over several openings, from both ends, and the chain is whole; nobody else may read the files."""
    for turn in range(3):
        with opened(tmp_path) as files:
            files.append(bodies(turn, turn))
            head = files.append(bodies(turn))
    assert names(tmp_path) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [json.loads(line)["seq"] for line in newest(tmp_path)] == list(range(9, 0, -1))
    verdict = whole(tmp_path)
    assert (verdict.records, verdict.first, verdict.head) == (9, 1, head)
    assert len(files_of(tmp_path)) == 1
    for path in (tmp_path / "audit").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700


def test_two_that_write_in_turn(tmp_path: Path) -> None:
    """Each goes on where the other ended."""
    with opened(tmp_path) as one, opened(tmp_path, largest=600) as other:
        for number in range(40):
            (one if number % 3 else other).append(bodies(number))
    assert names(tmp_path) == list(range(40))
    assert whole(tmp_path).records == 40
    assert len(files_of(tmp_path)) > 2


def test_many_threads_and_processes_at_once(tmp_path: Path) -> None:
    """Every record is there once, in one whole chain, each writer's in its order."""
    program = (
        "import sys, pathlib, json; from inhouse.store.audit_files import AuditFiles\n"
        "files = AuditFiles(pathlib.Path(sys.argv[1]), segment_bytes_max=4096, keep_s=1e9)\n"
        "for n in range(60): files.append([json.dumps({'time': 1, 'name': [sys.argv[2], n]}).encode()])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)]) for n in range(3)]
    with opened(tmp_path, largest=4096) as files:

        def work(name: str) -> None:
            for number in range(60):
                files.append(bodies([name, number]))

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert whole(tmp_path).records == 300
    found = names(tmp_path)
    for writer in ("a", "b", "0", "1", "2"):
        assert [number for name, number in found if name == writer] == list(range(60))


def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    """At whatever moment: the chain stays whole, what was confirmed is there, and the next one goes on."""
    program = (
        "import sys, pathlib, json; from inhouse.store.audit_files import AuditFiles\n"
        "files = AuditFiles(pathlib.Path(sys.argv[1]), segment_bytes_max=4096, keep_s=1e9)\n"
        "n = 0\n"
        "while True: n += 1; print(files.append([json.dumps({'time': n}).encode()] * 3), flush=True)\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20):
            confirmed = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        seq, _, digest = confirmed.partition(":")
        assert verify(tmp_path, noted=Head(int(seq), digest)).problems == ()
    with opened(tmp_path) as files:
        files.append(bodies("after"))
    assert names(tmp_path)[-1] == "after"
    whole(tmp_path)


@given(st.integers(1, 250))
@settings(max_examples=30, deadline=None)
def test_a_torn_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """A line that was not written whole is passed over, then cut off by the next writer, who says so."""
    folder = tmp_path_factory.mktemp("torn")
    with opened(folder) as files:
        files.append(bodies("a", "b"))
        (path,) = files_of(folder)
        torn = b'{"seq":3,"time":1,"name":"' + b"x" * cut
        with path.open("ab") as file:
            file.write(torn)
        assert whole(folder).records == 2
        files.append(bodies("c"))
    assert names(folder) == ["a", "b", "audit.torn", "c"]
    assert json.loads(list(oldest(folder))[2])["facts"] == {"bytes": len(torn)}
    whole(folder)


@pytest.mark.parametrize("opening", [b"", b'{"audit":1,"af'])
def test_a_segment_whose_writer_died_while_it_made_it(tmp_path: Path, opening: bytes) -> None:
    """It goes, and the chain goes on."""
    with opened(tmp_path) as files:
        files.append(bodies("a"))
        (tmp_path / "audit" / "audit-000000000002-20241004.jsonl").write_bytes(opening)
        files.append(bodies("b"))
        files.append(bodies("c"))
    assert [name for name in names(tmp_path) if name != "audit.torn"] == ["a", "b", "c"]
    whole(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    """What could not be written whole is taken back, and told; once there is room it goes on, without a gap."""
    with opened(tmp_path) as files:
        files.append(bodies("a"))
        (path,) = files_of(tmp_path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
            with pytest.raises(StateError, match="audit"):
                files.append(bodies(*["b" * 100] * 5))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert names(tmp_path) == ["a"]
        files.append(bodies("c"))
    assert names(tmp_path) == ["a", "c"]
    whole(tmp_path)


def test_a_record_that_is_changed_or_dropped_or_moved(tmp_path: Path) -> None:
    """Is named with its file and line."""
    with opened(tmp_path) as files:
        files.append(bodies(*"abcdef"))
    (path,) = files_of(tmp_path)
    original = path.read_bytes()
    lines = original.splitlines(keepends=True)

    def problems(changed: list[bytes]) -> tuple[str, ...]:
        path.write_bytes(b"".join(changed))
        return verify(tmp_path).problems

    (problem,) = problems([line.replace(b'"c"', b'"x"') for line in lines])
    assert problem.startswith("record 3 was changed")
    assert f"{path.name}, line 4" in problem
    assert problems([*lines[:3], *lines[4:]]) == ("record 3 is missing",)
    assert "record 3 is not in its place" in problems([*lines[:3], lines[4], lines[3], *lines[5:]])[0]
    assert problems(lines[:-1]) == ("the chain ends at record 5, and it reached record 6 once: the end was cut off",)
    assert problems(lines) == ()


def test_the_end_that_was_cut_off_stays_to_be_seen(tmp_path: Path) -> None:
    """Also when the gateway, running or started anew, has written more since."""
    with opened(tmp_path) as files:
        files.append(bodies(*"abcdef"))
        (path,) = files_of(tmp_path)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
        files.append(bodies("g", "h"))
    with opened(tmp_path) as files:
        files.append(bodies("i"))
    assert verify(tmp_path).problems == ("records 5 to 6 are missing",)
    assert names(tmp_path) == list("abcdghi")


def test_a_segment_that_is_dropped(tmp_path: Path) -> None:
    """Whichever it is, the records that went with it are named."""
    with opened(tmp_path, largest=1) as files:
        for name in "abcd":
            files.append(bodies(name))
    paths = files_of(tmp_path)
    for which, path in enumerate(paths):
        kept = path.read_bytes()
        path.unlink()
        (problem,) = verify(tmp_path).problems
        assert "missing" in problem or "cut off" in problem
        assert str(which + 1) in problem
        path.write_bytes(kept)
    whole(tmp_path)


def test_a_head_that_was_noted_elsewhere(tmp_path: Path) -> None:
    """Shows a chain that was made anew as a whole, which nothing in it can show."""
    with opened(tmp_path) as files:
        noted = files.append(bodies("a", "b"))
        files.append(bodies("c"))
    assert verify(tmp_path, noted=noted).problems == ()
    for path in (tmp_path / "audit").iterdir():
        path.unlink()
    with opened(tmp_path) as files:
        files.append(bodies("a", "x", "c"))
    assert verify(tmp_path).problems == ()
    assert verify(tmp_path, noted=noted).problems == (
        "record 2 is not the one that was noted: the chain was made anew",
    )


def test_a_record_older_than_it_is_kept(tmp_path: Path) -> None:
    """Its day's segment goes when the whole day lies back far enough; a record says which numbers went."""
    clock = Clock()
    with opened(tmp_path, clock, days=3) as files:
        for day in range(8):
            clock.now_s = NOON + day * DAY_S
            files.append(bodies(day))
    assert [name for name in names(tmp_path) if isinstance(name, int)] == [4, 5, 6, 7]
    verdict = whole(tmp_path)
    assert verdict.first > 1
    files_of(tmp_path)[0].unlink()
    (problem,) = verify(tmp_path).problems
    assert "no record says that they expired" in problem


def test_a_gateway_that_slept_for_a_year(tmp_path: Path) -> None:
    """Everything before goes at its start, and the chain goes on."""
    clock = Clock()
    with opened(tmp_path, clock) as files:
        files.append(bodies("old"))
    clock.now_s += 365 * DAY_S
    with opened(tmp_path, clock) as files:
        files.append([])
        files.append(bodies("new"))
    assert names(tmp_path) == ["audit.expired", "new"]
    assert whole(tmp_path).first == 2


def test_pages_from_any_number_backwards(tmp_path: Path) -> None:
    """Whatever the segment's size, and however far back."""
    with opened(tmp_path, largest=1 << 19) as files:
        for start in range(0, 12_000, 1000):
            files.append(bodies(*(str(n) * 20 for n in range(start, start + 1000))))
    assert len(files_of(tmp_path)) > 1
    for before in (12_001, 12_000, 9_999, 5_000, 2_345, 2):
        lines = newest(tmp_path, before=before)
        assert [json.loads(next(lines))["seq"] for _ in range(min(3, before - 1))] == [
            before - 1 - n for n in range(min(3, before - 1))
        ]
    assert list(newest(tmp_path, before=1)) == []


def test_nothing_there(tmp_path: Path) -> None:
    """No records, no problems, and looking makes no folder."""
    assert list(newest(tmp_path)) == list(oldest(tmp_path)) == []
    assert whole(tmp_path).records == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """StateError, with the path and the way out."""
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(StateError, match="audit cannot be used: it is not a folder; choose another"):
        AuditFiles(tmp_path, segment_bytes_max=4096, keep_s=1.0)
