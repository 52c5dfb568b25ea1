"""`inhouse pull` as people and init containers run it: killed, in crowds, without room, without network."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.weights import gguf_bytes
from tests.weights.hub_server import COMMIT, Hub, Repo, serving
from tests.weights.pulling import PULL_S, Done, Puller

from inhouse.cli.pull_progress import Pace, status
from inhouse.weights.part import bytes_here

MODEL = gguf_bytes.model() + os.urandom(1_000_000)
SHA256 = hashlib.sha256(MODEL).hexdigest()
SOURCE = "hf://acme/tiny-GGUF/tiny-Q8_0.gguf"


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving() as running:
        files = {"tiny-Q8_0.gguf": MODEL, "README.md": b"---\nlicense: mit\n---\n# Tiny", "LICENSE": b"MIT"}
        running.repos["acme/tiny-GGUF"] = Repo(files, small={"README.md", "LICENSE"})
        yield running


@pytest.fixture
def puller(server: Hub, tmp_path: Path) -> Puller:
    return Puller(server.url, tmp_path)


def bytes_sent(server: Hub) -> int:
    """Of the model, by the ranges that were asked for."""
    total = 0
    for verb, path, wanted in server.requests:
        if verb == "GET" and path.endswith("blobs/acme/tiny-GGUF/tiny-Q8_0.gguf") and wanted:
            start, end = map(int, wanted.removeprefix("bytes=").split("-"))
            total += end - start + 1
    return total


def test_a_model_comes_with_its_licence_and_its_digests(server: Hub, puller: Puller) -> None:
    """It says where it is, what it hashes to and how far it was; a second time nothing is fetched."""
    done = puller.run("pull", SOURCE, "--json")
    assert (done.code, done.err) == (0, "")
    pulled = done.pulled
    path = puller.cache / "models--acme--tiny-GGUF" / "snapshots" / COMMIT / "tiny-Q8_0.gguf"
    assert pulled["path"] == str(path)
    assert path.read_bytes() == MODEL
    assert pulled["sha256"] == SHA256
    assert {file["name"] for file in pulled["files"]} == {"tiny-Q8_0.gguf", "README.md", "LICENSE"}
    assert pulled["files"][0]["digest"] == f"sha256:{SHA256}"
    assert done.events[0]["event"] == "progress"
    assert bytes_sent(server) == len(MODEL)
    assert puller.run("pull", SOURCE).out == f"{SOURCE}: 977.8 KiB at {path}\n"
    assert bytes_sent(server) == len(MODEL)


def test_parts_of_a_file_come_at_once(server: Hub, puller: Puller) -> None:
    """Eight ranges are under way before the first has ended."""
    server.gate = threading.Event()
    process = puller.start("pull", SOURCE, "--connections", "8")
    server.wait_for(lambda: len([1 for verb, path, _ in server.requests if path.startswith("/blobs")]) >= 8)
    server.gate.set()
    process.communicate(timeout=PULL_S)
    assert process.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_stopped_in_the_middle_it_goes_on_there(server: Hub, puller: Puller, how: signal.Signals) -> None:
    """Killed, by Ctrl-C or by Kubernetes: what had come is not fetched again, and no half file bears the name."""
    server.gate = threading.Event()
    process = puller.start("pull", SOURCE, "--connections", "2")
    server.wait_for(lambda: here(puller) >= 100_000)
    process.send_signal(how)
    _, err = process.communicate(timeout=PULL_S)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert ("run the same command to go on" in err) == (how == signal.SIGINT)
    server.gate.set()
    server.gate = None
    kept = here(puller)
    assert not list(puller.cache.rglob("*.gguf"))
    server.requests.clear()
    done = puller.run("pull", SOURCE, "--json")
    assert done.pulled["sha256"] == SHA256
    assert Path(done.pulled["path"]).read_bytes() == MODEL
    assert bytes_sent(server) == len(MODEL) - kept
    assert not list(puller.cache.rglob("*.part*"))


def here(puller: Puller) -> int:
    return sum(bytes_here(path) for path in puller.cache.rglob("*.part"))


def test_killed_again_and_again_it_ends_whole(server: Hub, puller: Puller) -> None:
    """At moments nobody chose; each run brings it further."""
    server.gate = threading.Event()
    had = 0
    for _ in range(4):
        process = puller.start("pull", SOURCE, "--connections", "3")
        server.wait_for(lambda had=had: here(puller) > had)
        process.kill()
        process.communicate(timeout=PULL_S)
        had = here(puller)
    server.gate.set()
    server.gate = None
    assert puller.run("pull", SOURCE, "--json").pulled["sha256"] == SHA256


def test_ten_at_once_fetch_it_once(server: Hub, puller: Puller) -> None:
    """As ten pods on one volume do: the others wait, then find it there."""
    processes = [puller.start("pull", SOURCE, "--json") for _ in range(10)]
    outcomes = [Done(0, *process.communicate(timeout=PULL_S)) for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert {outcome.pulled["sha256"] for outcome in outcomes} == {SHA256}
    assert bytes_sent(server) == len(MODEL)


def test_who_waits_takes_over_from_one_that_was_killed(server: Hub, puller: Puller) -> None:
    """The lock dies with its holder, and what that one had fetched counts."""
    server.gate = threading.Event()
    first = puller.start("pull", SOURCE, "--connections", "2")
    server.wait_for(lambda: here(puller) >= 100_000)
    second = puller.start("pull", SOURCE, "--json")
    assert second.stdout is not None
    assert json.loads(second.stdout.readline())["done_bytes"] >= 100_000  # it waits, and tells how far the other is
    first.kill()
    first.communicate(timeout=PULL_S)
    server.gate.set()
    out, _ = second.communicate(timeout=PULL_S)
    assert Done(second.returncode, out, "").pulled["sha256"] == SHA256


def test_wrong_bytes_are_refused_and_not_kept(server: Hub, puller: Puller) -> None:
    """The hash is that of the hub's metadata; both are told."""
    server.bad_bytes = 1000
    done = puller.run("pull", SOURCE, "--json")
    assert done.code == 1
    assert SHA256 in done.events[-1]["message"]
    assert "hashes to" in done.err
    assert not list(puller.cache.rglob("*.gguf"))
    assert not list(puller.cache.rglob("*.part"))
    server.bad_bytes = 0
    assert puller.run("pull", SOURCE).code == 0


def test_bytes_of_an_earlier_run_that_were_wrong_are_fetched_again(server: Hub, puller: Puller) -> None:
    """A part that was damaged on the disk does not stand in the way for ever."""
    server.gate = threading.Event()
    process = puller.start("pull", SOURCE, "--connections", "2")
    server.wait_for(lambda: here(puller) >= 100_000)
    process.kill()
    process.communicate(timeout=PULL_S)
    server.gate.set()
    server.gate = None
    part = next(puller.cache.rglob("*.part"))
    with part.open("r+b") as stream:
        stream.write(b"XXXX")
    assert puller.run("pull", SOURCE, "--json").pulled["sha256"] == SHA256


def test_a_pinned_digest_must_be_met(server: Hub, puller: Puller) -> None:
    """By a flag or by the stack, whatever the hub says of itself."""
    assert puller.run("pull", SOURCE, "--sha256", SHA256.upper()).code == 0
    done = puller.run("pull", SOURCE, "--sha256", "0" * 64)
    assert done.code == 1
    assert f"has the SHA-256 {SHA256}, pinned is {'0' * 64}" in done.err
    assert puller.run("pull", SOURCE, "--sha256", "zz").code == 2
    (puller.folder / "inhouse.yaml").write_text(f"models: {{chat: {{source: '{SOURCE}', sha256: {'f' * 64}}}}}")
    assert puller.run("pull", "chat").code == 1


def test_a_full_disk_is_told_before_anything_is_fetched(server: Hub, puller: Puller) -> None:
    server.claimed_size = 2**60
    done = puller.run("pull", SOURCE)
    assert done.code == 1
    assert "needs 1073741824.00 GiB of disk" in done.err
    assert bytes_sent(server) == 0


def test_an_address_that_is_no_longer_signed_is_asked_for_anew(server: Hub, puller: Puller) -> None:
    """Signatures of the storage end within the hour; a large file takes longer."""
    server.gate = threading.Event()
    process = puller.start("pull", SOURCE, "--connections", "1", "--json")
    server.wait_for(lambda: here(puller) >= 50_000)
    server.signature = "second"
    server.gate.set()
    out, _ = process.communicate(timeout=PULL_S)
    assert Done(process.returncode, out, "").pulled["sha256"] == SHA256
    resolved = [path for verb, path, _ in server.requests if verb == "GET" and "/resolve/" in path]
    assert len([path for path in resolved if path.endswith(".gguf")]) == 2


def test_a_place_without_ranges_gives_it_whole(server: Hub, puller: Puller) -> None:
    server.no_ranges = True
    server.break_after = [200_000]
    assert puller.run("pull", SOURCE, "--json").pulled["sha256"] == SHA256


def test_offline_finds_what_was_pulled(server: Hub, puller: Puller) -> None:
    """And says so, with another exit code, when nobody answers; nobody is asked offline."""
    assert puller.run("pull", SOURCE, "--offline").code == 1
    assert server.requests == []
    puller.run("pull", SOURCE)
    server.requests.clear()
    done = puller.run("pull", SOURCE, "--offline", "--json")
    assert done.pulled["sha256"] == SHA256
    assert {file["name"] for file in done.pulled["files"]} == {"tiny-Q8_0.gguf", "README.md", "LICENSE"}
    assert server.requests == []
    assert puller.run("pull", "hf://acme/other/x.gguf", HF_ENDPOINT="http://127.0.0.1:9").code == 75


def test_a_folder_is_filled_with_plain_files(server: Hub, puller: Puller) -> None:
    """As an init container fills a volume: real files under their own names; what is there is not fetched again."""
    volume = puller.folder / "volume"
    for asked in (len(MODEL), 0):
        server.requests.clear()
        done = puller.run("pull", SOURCE, "--to", str(volume), "--json")
        assert done.pulled["path"] == str(volume / "tiny-Q8_0.gguf")
        assert done.pulled["sha256"] == SHA256
        assert bytes_sent(server) == asked
    assert not (volume / "tiny-Q8_0.gguf").is_symlink()
    assert (volume / "tiny-Q8_0.gguf").read_bytes() == MODEL
    assert not puller.cache.exists()
    (volume / "tiny-Q8_0.gguf").write_bytes(MODEL[:-1] + b"\0")  # somebody wrote to it
    assert puller.run("pull", SOURCE, "--to", str(volume)).code == 0
    assert (volume / "tiny-Q8_0.gguf").read_bytes() == MODEL


def test_a_filled_folder_serves_while_nobody_answers(server: Hub, puller: Puller) -> None:
    """A pod that starts again finds its volume filled; another wish or a changed file is not served by it."""
    words = ("pull", SOURCE, "--to", str(puller.folder / "volume"), "--json")
    assert puller.run(*words).code == 0
    for done in (puller.run(*words, HF_ENDPOINT="http://127.0.0.1:9"), puller.run(*words, "--offline")):
        assert done.pulled["path"] == str(puller.folder / "volume" / "tiny-Q8_0.gguf")
        assert done.pulled["sha256"] == SHA256
    assert puller.run(*words, "--quant", "Q4_0", HF_ENDPOINT="http://127.0.0.1:9").code == 75
    (puller.folder / "volume" / "tiny-Q8_0.gguf").write_bytes(MODEL + b"0")
    assert puller.run(*words, HF_ENDPOINT="http://127.0.0.1:9").code == 75


def test_a_folder_is_filled_from_the_cache_offline(server: Hub, puller: Puller) -> None:
    puller.run("pull", SOURCE)
    server.requests.clear()
    done = puller.run("pull", SOURCE, "--offline", "--to", str(puller.folder / "volume"), "--json")
    assert done.pulled["path"] == str(puller.folder / "volume" / "tiny-Q8_0.gguf")
    assert Path(done.pulled["path"]).read_bytes() == MODEL
    assert (puller.folder / "volume" / "LICENSE").read_bytes() == b"MIT"
    assert server.requests == []
    assert puller.run("pull", SOURCE, "--to", str(puller.folder / "volume")).code == 0
    assert bytes_sent(server) == 0


def test_a_proxy_of_the_environment_is_used(server: Hub, puller: Puller) -> None:
    """For the hub and for the storage behind it."""
    done = puller.run(
        "pull", SOURCE, "--json", HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=server.url, NO_PROXY="", no_proxy=""
    )
    assert done.pulled["sha256"] == SHA256
    assert bytes_sent(server) == len(MODEL)


def test_the_models_of_the_stack_come_by_name(server: Hub, puller: Puller) -> None:
    """Without a name all of them, each as its engine reads it; a strange name is told."""
    stack = puller.folder / "inhouse.yaml"
    stack.write_text(f"models: {{chat: {{source: '{SOURCE}'}}, far: {{endpoints: ['http://127.0.0.1:9']}}}}")
    assert puller.run("pull").out.startswith("chat: 977.8 KiB at ")
    assert puller.run("pull", "--config", str(stack), "chat", "--json").pulled["model"] == "chat"
    for wrong in ("nothing", "far"):
        assert puller.run("pull", wrong).code == 2


def test_a_terminal_sees_a_bar(server: Hub, puller: Puller) -> None:
    """It is redrawn, and gone at the end."""
    server.gate = threading.Event()
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "inhouse", "pull", SOURCE, "--connections", "1"],
        env=puller.environment() | {"COLUMNS": "200"},
        cwd=puller.folder,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    seen = ""
    while " % " not in seen or "B/s" not in seen:
        seen += os.read(terminal, 4096).decode(errors="replace")
    server.gate.set()
    with suppress(OSError):  # how Linux says that the other end is closed
        while more := os.read(terminal, 4096):
            seen += more.decode(errors="replace")
    assert process.wait(PULL_S) == 0
    os.close(terminal)
    assert re.search(r"━+─+ +\d+ %  .* of 977\.8 KiB, .*B/s", seen)
    assert seen.endswith("\r\x1b[2K")


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    """What was here before counts for neither; a fast beginning is forgotten."""
    pace = Pace()
    pace.saw(0.0, 4_000_000)
    assert status(pace, 4_000_000, 8_000_000) == "3.8 MiB of 7.6 MiB"
    pace.saw(1.0, 6_000_000)
    assert (pace.bytes_per_s, pace.left_s(8_000_000)) == (2_000_000, 1.0)
    for second in range(2, 30):
        pace.saw(float(second), 6_000_000 + second * 1_000)
    assert pace.bytes_per_s == 1_000
    assert status(pace, 6_029_000, 8_000_000) == "5.7 MiB of 7.6 MiB, 1.0 KiB/s, 33 min left"
    assert pace.left_s(None) is None
