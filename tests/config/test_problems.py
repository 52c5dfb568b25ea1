"""Mistakes: each is told with its place, the value and the way out."""

from pathlib import Path

import pytest

from inhouse.config import StackProblems, load
from inhouse.errors import StackError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(text: str | None, **environ: str) -> StackError:
    if text is not None:
        Path("inhouse.yaml").write_text(text)
    with pytest.raises(StackError) as caught:
        load(None, environ=environ, flags={})
    return caught.value


FILES = [
    # text, line, message, hint
    (
        "models:\n  chat:\n    source: demo\n    slot: 3\n",
        4,
        "unknown key `slot` in `models.chat`",
        "did you mean `slots`?",
    ),
    ("port: 80\n", 1, "unknown key `port`", "`port` belongs to `gateway`"),
    ("zzz: 80\n", 1, "unknown key `zzz`", "known keys: models, gateway, auth, log, state_dir"),
    ("modles: {}\n", 1, "unknown key `modles`", "did you mean `models`?"),
    ("\nlog:\n  level: warn\n", 3, "`log.level` is 'warn': not one of", "expected one of debug, info, warning, error"),
    ("gateway:\n  port: 99999\n", 2, "`gateway.port` is 99999: too large", "from 0 to 65535 (default 8080)"),
    ("gateway:\n  port: true\n", 2, "`gateway.port` is true: not a whole number", "a whole number from 0"),
    ("gateway:\n  port: 1.5\n", 2, "`gateway.port` is 1.5: not a whole number", "a whole number from 0"),
    ("gateway:\n  port: x\n", 2, "`gateway.port` is 'x': not a whole number", "a whole number from 0"),
    (
        "gateway: {request_bytes_max: 8 M}\n",
        1,
        "unknown unit 'M'",
        "a size such as 8 MiB, 1 KiB or more (default 8 MiB)",
    ),
    ("gateway: {request_bytes_max: 1 B}\n", 1, "too small", "1 KiB or more"),
    ("gateway: {keep_alive: 5 m}\n", 1, "unknown unit 'm'", "a duration such as 30 s"),
    ("gateway: {keep_alive: 0}\n", 1, "too small", "more than 0 s (default 75 s)"),
    ("gateway: {host: ''}\n", 1, "`gateway.host` is ''", "expected form: text"),
    ("gateway: 3\n", 1, "`gateway` is not a mapping", "known keys: host, port"),
    ("models: [a]\n", 1, "`models` is not a mapping", "{chat: {source: demo}}"),
    ("models:\n  a: demo\n", 2, "`models.a` is not a mapping", "{source: …}"),
    ("models:\n  a:\n", 2, "`models.a` is not a mapping", "{source: …}"),
    ("models:\n  a:\n    slots: 1\n", 2, "`models.a` lacks `source`", "hf://org/repo[/file.gguf]"),
    ("models:\n  a: {source: llama}\n", 2, "'llama', which is no name of the catalogue", "did you mean llama-3"),
    ("models:\n  a: {source: 'hf://x/y.gguf'}\n", 2, "not a place on the hub", "hf://org/repo[/file.gguf]"),
    ("models:\n  a: {source: 's3://bucket'}\n", 2, "not a place in a bucket", "s3://bucket/key"),
    ("models:\n  a: {source: 'oci://registry'}\n", 2, "not a place in a registry", "oci://registry/repo"),
    ("models:\n  a: {source: 'http://host/m.gguf'}\n", 2, "use https://", "https://host/file.gguf"),
    ("models:\n  a: {source: 'https://me:pw@host/m.gguf'}\n", 2, "belong into ~/.netrc", "https://host/file.gguf"),
    ("models:\n  a: {source: 'https://host/'}\n", 2, "must lead to a .gguf file", "https://host/file.gguf"),
    ("models:\n  a: {source: 'ftp://host/m.gguf'}\n", 2, "'ftp://'", "https://host/file.gguf"),
    ("models:\n  a: {source: demo, sha256: abc}\n", 2, "64 hexadecimal digits", "text"),
    ("models:\n  a b: {source: demo}\n", 2, "'a b' cannot name a model", "gemma-3-1b"),
    ("models:\n  /a: {source: demo}\n", 2, "'/a' cannot name a model", "no / in front"),
    (
        "models: {a: {source: demo,\n engine_args: [-x, 1]}}\n",
        2,
        "engine_args[1]` is 1: not text",
        "a list such as [a, b]",
    ),
    (
        "issuers: {a: {issuer: https://id.example.org,\n audiences: []}}\n",
        2,
        "audiences` is []: empty",
        "a list such as",
    ),
    ("auth:\n  enabled: maybe\n", 2, "`auth.enabled` is 'maybe': neither true nor false", "(default true)"),
    ("gateway:\n  port: 1\n  port: 2\n", 3, "`port` is given twice; the first is on line 2", "keep one"),
    (
        "gateway:\n  host: 0.0.0.0\nauth:\n  enabled: false\n",
        4,
        "auth is off while the gateway listens on 0.0.0.0",
        "keys",
    ),
    ("gateway:\n  tls_key: k.pem\n", 2, "`gateway.tls_cert` is not", "TLS needs both"),
    ("a: [1\nb: 2\n", 2, "not valid YAML", "flow sequence that began on line 1"),
    ("a:\n\t- b\n", 2, "not valid YAML", ""),
    ("- a\n", 1, "the file is not a mapping", "each with its keys indented"),
    ("a: 1\n---\nb: 2\n", 2, "not valid YAML", ""),
    ("a: \x01\n", 1, "not valid YAML: special characters are not allowed", ""),
    ("a: !!python/name:os.system x\n", 1, "could not determine a constructor", ""),
    ("? [a]\n: 1\n", 1, "a key is a single word", ""),
    ("a: *b\n", 1, "undefined alias", ""),
    ("a: &a [*a]\n", 1, "32 levels", ""),
]


@pytest.mark.parametrize(("text", "line", "message", "hint"), FILES)
def test_a_mistake_in_the_file(text: str, line: int, message: str, hint: str) -> None:
    """Message, exact line, and a hint that leads on."""
    error = refusal(text)
    assert not isinstance(error, StackProblems), error.message
    assert error.where == f"inhouse.yaml:{line}"
    assert message in error.message
    assert hint in (error.hint or "")
    assert error.exit_code == 2


def test_aliases_that_grow_are_stopped() -> None:
    """Ten lines of nested aliases would be a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "100000 values" in refusal("\n".join(lines)).message


def test_deep_nesting_is_stopped() -> None:
    assert "deep" in refusal("[" * 5000).message


VARIABLES = [
    ("INHOUSE_GATEWAY__PROT", "1", "no setting is called", "did you mean `INHOUSE_GATEWAY__PORT`?"),
    ("INHOUSE_API_KEYS", "1", "no setting is called", "did you mean `INHOUSE_API_KEY`?"),
    ("INHOUSE_QQ", "1", "no setting is called", "`inhouse config schema`"),
    ("INHOUSE_GATEWAY", "1", "is a section", "INHOUSE_GATEWAY__HOST"),
    ("INHOUSE_GATEWAY__PORT", "nine", "`gateway.port` is 'nine'", "a whole number"),
    ("INHOUSE_MODELS__DEMO__SLOT", "1", "no setting is called", "did you mean `INHOUSE_MODELS__DEMO__SLOTS`?"),
    ("INHOUSE_MODELS__CHAT__SLOTS", "1", "`models.chat` lacks `source`", "hf://"),
    ("INHOUSE_GATEWAY__CORS_ORIGINS", "[a", "not a list", "a list such as"),
    ("INHOUSE_GATEWAY__CORS_ORIGINS", "'a", "not a list", "a list such as"),
]


@pytest.mark.parametrize(("name", "value", "message", "hint"), VARIABLES)
def test_a_mistake_in_a_variable(name: str, value: str, message: str, hint: str) -> None:
    error = refusal(None, **{name: value})
    assert error.where == name
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_variable_that_fits_two_models_is_refused() -> None:
    error = refusal("models: {a.b: {source: demo}, a-b: {source: demo}}\n", INHOUSE_MODELS__A_B__SLOTS="1")
    assert "could mean the models a.b and a-b" in error.message


def test_a_model_by_hand_beside_a_file_that_speaks_of_its_own() -> None:
    """What the file says of models that made room is told as a matter of the argument."""
    Path("inhouse.yaml").write_text("models: {chat: {source: demo}}\ntenants: {acme: {models: [chat]}}\n")
    with pytest.raises(StackError, match="names 'chat', which is no model") as caught:
        load(None, environ={}, flags={"models": {"other": {"source": "demo"}}})
    assert "MODEL takes the place" in (caught.value.hint or "")


def test_a_flag_is_named_once_though_it_sets_every_model() -> None:
    Path("inhouse.yaml").write_text("models: {a: {source: demo}, b: {source: demo}}\n")
    with pytest.raises(StackError, match="`--slots` is 0: too small") as caught:
        load(None, environ={}, flags={"models.*.slots": 0})
    assert caught.value.where == "--slots"


def test_all_mistakes_are_told_at_once_in_reading_order() -> None:
    """One run of the check is enough to see everything."""
    error = refusal(
        "gateway:\n  prt: 1\n  drain: x\n  drain: y\nlog: {level: loud}\n", INHOUSE_NOPE="1", INHOUSE_GATEWAY__PORT="-1"
    )
    assert isinstance(error, StackProblems)
    assert [problem.where for problem in error.problems] == [
        "inhouse.yaml:2",
        "inhouse.yaml:3",
        "inhouse.yaml:4",
        "inhouse.yaml:5",
        "INHOUSE_NOPE",
        "INHOUSE_GATEWAY__PORT",
    ]
    for problem in error.problems:
        assert problem.message in error.message


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(StackError, match=r"there is no file `x\.yaml`") as caught:
        load(Path("x.yaml"), environ={}, flags={})
    assert caught.value.where == "--config"
    assert refusal(None, INHOUSE_CONFIG="y.yaml").where == "INHOUSE_CONFIG"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="cannot be read: Is a directory"):
        load(tmp_path, environ={}, flags={})
    Path("latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(StackError, match="not UTF-8 text"):
        load(Path("latin.yaml"), environ={}, flags={})
