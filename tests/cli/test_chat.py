"""`inhouse chat` with one question: by arguments and by pipe, its errors, its key, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_a_piped_question_prints_only_the_answer(inhouse: Any, gateway: Any) -> None:
    done = inhouse("chat", "--base-url", gateway.url, "--api-key", "k", text="hi there\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "you said: hi there \n", "")
    (request,) = gateway.requests
    assert request["messages"] == [{"role": "user", "content": "hi there"}]
    assert (request["model"], request["stream"]) == ("alpha", True)


def test_words_are_the_question_and_options_go_along(inhouse: Any, gateway: Any) -> None:
    done = inhouse(
        *("chat", "what", "is", "it", "--model", "beta", "--system", "be brief", "--temperature", "0"),
        *("--max-tokens", "7", "--base-url", gateway.url.removesuffix("/v1"), "--api-key", "k"),
    )
    assert done.returncode == 0, done.stderr
    (request,) = gateway.requests
    assert [message["content"] for message in request["messages"]] == ["be brief", "what is it"]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("beta", 0, 7)


def test_a_dash_is_standard_input(inhouse: Any, gateway: Any) -> None:
    done = inhouse("chat", "Sum up:", "-", "--base-url", gateway.url, "--api-key", "k", text="a\nb\n")
    assert done.stdout == "you said: Sum up: a\nb \n"


def test_thoughts_stay_out_of_a_pipe(inhouse: Any, gateway: Any) -> None:
    done = inhouse("chat", "think", "--base-url", gateway.url, "--api-key", "k")
    assert done.stdout == "you said: think \n"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("fail", "error: the prompt is too long [context_length_exceeded] (HTTP 400)\n"),
        ("busy", "error: the queue is full [queue_full] (HTTP 429)\n  hint: try again in 2 s\n"),
        ("midway", "error: the engine ended [engine_failed]\n"),
        ("cut", "error: the answer broke off\n  hint: the gateway's log says why; ask again\n"),
        ("", "error: there is no question\n  hint: inhouse chat 'What is a slot?', or echo … | inhouse chat\n"),
    ],
)
def test_what_goes_wrong_is_told(inhouse: Any, gateway: Any, question: str, said: str) -> None:
    """Message and code on standard error, exit code 1, no traceback."""
    done = inhouse("chat", "--base-url", gateway.url, "--api-key", "k", text=question)
    assert (done.returncode, done.stderr) == (1, said)


def test_nothing_listens(inhouse: Any) -> None:
    done = inhouse("chat", "hi", "--base-url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "error: nothing listens at http://127.0.0.1:1/v1\n  hint: start it with `inhouse serve`\n"


def test_no_address(inhouse: Any) -> None:
    for address in ("ftp://x", "http://", "http://x:y"):
        done = inhouse("chat", "hi", INHOUSE_BASE_URL=address)
        assert done.returncode == 1
        assert "is not an address" in done.stderr


def test_a_wrong_key_says_how_to_pass_another(inhouse: Any, gateway: Any) -> None:
    gateway.key = "right"
    done = inhouse("chat", "hi", "--base-url", gateway.url, INHOUSE_API_KEY="wrong")
    assert done.returncode == 1
    assert "the key is not known [invalid_api_key] (HTTP 401)" in done.stderr
    assert "--api-key or INHOUSE_API_KEY" in done.stderr
    assert inhouse("chat", "hi", INHOUSE_BASE_URL=gateway.url, INHOUSE_API_KEY="right").returncode == 0


def test_without_a_key_one_is_made_and_revoked(inhouse: Any, gateway: Any) -> None:
    """The configured gateway on this machine gets a key that lives as long as the command."""
    port = str(gateway.server_port)
    done = inhouse("chat", "hi", INHOUSE_GATEWAY__PORT=port)
    assert done.returncode == 0, done.stderr
    assert len(set(gateway.keys_seen)) == 1
    assert gateway.keys_seen[0]
    (key,) = json.loads(inhouse("keys", "list", "--all", "--json").stdout)
    assert (key["note"], key["state"]) == ("inhouse chat", "revoked")


def test_a_key_from_the_wrong_folder_says_so(inhouse: Any, gateway: Any) -> None:
    gateway.key = "of another folder"
    done = inhouse("chat", "hi", "--base-url", gateway.url)
    assert done.returncode == 1
    assert "--state-dir" in done.stderr


def test_no_key_is_made_for_a_gateway_without_keys(inhouse: Any, gateway: Any, tmp_path: Path) -> None:
    done = inhouse("chat", "hi", INHOUSE_GATEWAY__PORT=str(gateway.server_port), INHOUSE_AUTH__ENABLED="false")
    assert done.returncode == 0
    assert set(gateway.keys_seen) == {None}
    assert not (tmp_path / "state").exists()


def test_a_gateway_with_its_own_certificate(inhouse: Any, gateway: Any, certificate: Any, tmp_path: Path) -> None:
    """The configured certificate is trusted, whatever name it bears; that of a stranger is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    gateway.socket = context.wrap_socket(gateway.socket, server_side=True)
    (tmp_path / "inhouse.yaml").write_text(
        f"gateway: {{port: {gateway.server_port}, tls_cert: ./cert.pem, tls_key: ./key.pem}}\n"
    )
    done = inhouse("chat", "hi", "--api-key", "k")
    assert (done.returncode, done.stdout) == (0, "you said: hi \n"), done.stderr
    stranger = inhouse("chat", "hi", "--api-key", "k", "--base-url", f"https://127.0.0.1:{gateway.server_port}")
    assert stranger.returncode == 1
    assert "certificate verify failed" in stranger.stderr


def test_ctrl_c_ends_the_answer_and_hangs_up(gateway: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """Exit code 130, what came is printed, and the gateway sees the hang-up, which frees the slot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "inhouse", "chat", "hang", "--base-url", gateway.url, "--api-key", "k"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.read(len("first words")) == "first words"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert gateway.hung_up.wait(30)


def test_a_reader_that_leaves_is_no_error(gateway: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """`inhouse chat | head -c 1`: quiet."""
    command = f"{sys.executable} -m inhouse chat hi --base-url {gateway.url} --api-key k | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=30, check=False
    )
    assert done.stderr == ""
