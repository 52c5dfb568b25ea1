"""Reading a stack: which place wins, what paths are relative to, and what is taken without a file."""

from pathlib import Path

import pytest

from inhouse.config import GatewaySpec, ModelSpec, Stack, is_loopback, load, read, state_folder
from inhouse.config.catalog import find
from inhouse.config.show import render
from inhouse.errors import StackError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "inhouse.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


def test_without_anything_there_is_the_demo() -> None:
    """No file, no variable, no flag: one model `demo`, keys on, loopback."""
    stack = load(None, environ={}, flags={})
    assert stack == Stack()
    assert stack.models == {"demo": ModelSpec(source="demo")}
    assert (stack.auth.enabled, stack.gateway.host) == (True, "127.0.0.1")


@pytest.mark.parametrize("text", ["", "# nothing\n", "models:\n", "models: {}\n", "gateway:\n", "models: {demo: }\n"])
def test_an_empty_file_is_the_demo_too(text: str) -> None:
    write(text)
    assert load(None, environ={}, flags={}) == Stack()


def test_later_places_win() -> None:
    """File, then environment, then flags."""
    write("gateway: {port: 1, host: 127.0.0.2, drain: 1 s}\n")
    environ = {"INHOUSE_GATEWAY__PORT": "2", "INHOUSE_GATEWAY__HOST": "127.0.0.3"}
    gateway = load(None, environ=environ, flags={"gateway.port": 3, "gateway.host": None}).gateway
    assert (gateway.port, gateway.host, gateway.drain) == (3, "127.0.0.3", 1.0)


def test_the_file_is_named_by_flag_then_variable_then_folder() -> None:
    write("gateway: {port: 1}\n")
    environ = {"INHOUSE_CONFIG": str(write("gateway: {port: 2}\n", "two.yaml"))}
    three = write("gateway: {port: 3}\n", "three.yaml")
    assert load(three, environ=environ, flags={}).gateway.port == 3
    assert load(None, environ=environ, flags={}).gateway.port == 2
    assert load(None, environ={"INHOUSE_CONFIG": ""}, flags={}).gateway.port == 1


def test_paths_in_a_file_start_at_its_folder_and_others_at_the_current_one(tmp_path: Path) -> None:
    path = write(
        "models: {a: {source: ./a.gguf, engine_binary: bin/srv}, b: {source: sub/b.gguf, engine_binary: srv}}\n"
        "gateway: {tls_cert: c.pem, tls_key: /k.pem}\nstate_dir: ../state\n",
        "deep/inhouse.yaml",
    )
    stack = load(path, environ={}, flags={})
    assert stack.models["a"].source == str(tmp_path / "deep/a.gguf")
    assert stack.models["b"].source == str(tmp_path / "deep/sub/b.gguf")
    assert stack.models["a"].engine_binary == tmp_path / "deep/bin/srv"
    assert stack.models["b"].engine_binary == Path("srv"), "a bare name is looked up on PATH"
    assert (stack.gateway.tls_cert, stack.gateway.tls_key) == (tmp_path / "deep/c.pem", Path("/k.pem"))
    assert stack.state_dir == tmp_path / "state"
    assert load(path, environ={"INHOUSE_STATE_DIR": "here"}, flags={}).state_dir == tmp_path / "here"


def test_a_home_folder_is_known_by_its_tilde() -> None:
    assert load(None, environ={"INHOUSE_STATE_DIR": "~/s"}, flags={}).state_dir == Path.home() / "s"


def test_a_variable_finds_its_model_whatever_the_spelling() -> None:
    """`Gemma-3.1` is GEMMA_3_1; a list is words or brackets; an empty value is none."""
    write("models: {Gemma-3.1: {source: demo}}\n")
    environ = {
        "INHOUSE_MODELS__GEMMA_3_1__SLOTS": "7",
        "INHOUSE_MODELS__GEMMA_3_1__ENGINE_ARGS": "--flash-attn 'on off'",
        "INHOUSE_MODELS__GEMMA_3_1__THREADS": "",
        "INHOUSE_GATEWAY__CORS_ORIGINS": "[https://a.example, 'b']",
        "INHOUSE_AUTH__ENABLED": "false",
    }
    stack = load(None, environ=environ, flags={})
    (model,) = stack.models.values()
    assert (model.slots, model.engine_args, model.threads) == (7, ["--flash-attn", "on off"], None)
    assert stack.gateway.cors_origins == ["https://a.example", "b"]
    assert not stack.auth.enabled


def test_a_variable_can_add_a_model() -> None:
    stack = load(None, environ={"INHOUSE_MODELS__CHAT__SOURCE": "hf://org/repo/m.gguf@main"}, flags={})
    assert list(stack.models) == ["chat"]


def test_the_demo_takes_variables_without_a_source() -> None:
    stack = load(None, environ={"INHOUSE_MODELS__DEMO__SLOTS": "2"}, flags={})
    assert stack.models == {"demo": ModelSpec(source="demo", slots=2)}


def test_what_kubernetes_adds_for_a_service_is_passed_over() -> None:
    """A pod beside a Service called inhouse starts; the same names with plain values are mistakes."""
    environ = {
        "INHOUSE_SERVICE_HOST": "10.0.0.1",
        "INHOUSE_SERVICE_PORT_HTTP": "80",
        "INHOUSE_PORT": "tcp://10.0.0.1:80",
        "INHOUSE_PORT_80_TCP_ADDR": "10.0.0.1",
        "INHOUSE_GATEWAY_PORT": "tcp://10.0.0.1:80",
    }
    assert load(None, environ=environ, flags={}) == Stack()
    with pytest.raises(StackError, match="no setting is called `INHOUSE_PORT`"):
        load(None, environ={"INHOUSE_PORT": "80"}, flags={})


def test_a_flag_may_replace_the_models_and_set_all_of_them() -> None:
    write("models: {a: {source: demo}, b: {source: demo}}\n")
    both = load(None, environ={}, flags={"models.*.slots": 9})
    assert [model.slots for model in both.models.values()] == [9, 9]
    flags = {"models.*.slots": 9, "models": {"x-1.5": {"source": "./x-1.5.gguf"}}, "models.x-1.5.context": 512}
    one = load(None, environ={}, flags=flags)
    assert [(name, model.slots, model.context) for name, model in one.models.items()] == [("x-1.5", 9, 512)]


def test_shared_settings_come_by_alias() -> None:
    """`<<` merges; a key given directly wins."""
    write("models:\n  a: &a {source: demo, slots: 2, context: 512}\n  b: {<<: *a, slots: 3}\n")
    b = load(None, environ={}, flags={}).models["b"]
    assert (b.slots, b.context) == (3, 512)


def test_a_model_may_be_called_by_a_number() -> None:
    write("models: {3.10: {source: demo}}\n")
    assert list(load(None, environ={}, flags={}).models) == ["3.10"]


def test_the_state_folder_follows_xdg() -> None:
    assert state_folder(Stack(), {"XDG_STATE_HOME": "/x"}) == Path("/x/inhouse")
    assert state_folder(Stack(), {"XDG_STATE_HOME": "x", "HOME": "/h"}) == Path("/h/.local/state/inhouse")
    assert state_folder(Stack(state_dir=Path("/s")), {"XDG_STATE_HOME": "/x"}) == Path("/s")


@pytest.mark.parametrize(
    ("host", "home"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("h.example", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, home: bool) -> None:
    assert is_loopback(host) is home


def test_what_show_prints_describes_the_same_stack() -> None:
    """The printed stack, read again, is the stack; every value has its origin."""
    write("models:\n  a-b.c: {source: ./m.gguf, load_wait: 90 s}\ngateway:\n  request_bytes_max: 1 MB\n")
    reading = read(None, environ={"INHOUSE_LOG__LEVEL": "debug"}, flags={"gateway.port": 0})
    text = render(reading)
    again = write(text, "again.yaml")
    assert load(again, environ={}, flags={}) == reading.stack
    above_deploy = text.partition("\ndeploy:")[0]  # there, names of the other sections come again
    lines = {line.split(":")[0].strip(): line.split("# ")[1] for line in above_deploy.splitlines() if "# " in line}
    assert lines["load_wait"] == "inhouse.yaml:2"
    assert lines["request_bytes_max"] == "inhouse.yaml:4"
    assert lines["level"] == "INHOUSE_LOG__LEVEL"
    assert lines["port"] == "--port"
    assert lines["slots"] == "default"


def test_a_stack_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        GatewaySpec().port = 1  # type: ignore[misc]


def test_what_show_prints_of_pools_describes_them() -> None:
    """Names inside a model: all settings of one pool stand together, and what is read again is the same."""
    write(
        "models:\n  chat:\n    source: hf://a/b/c.gguf\n    queued: true\n    deploy:\n      pools:\n"
        "        standing: {replicas: 2}\n        spot: {spot: true, drain: 30 s}\n"
        "queue: {url: 'redis://r:6379/0'}\n"
    )
    reading = read(None, environ={}, flags={})
    text = render(reading)
    write(text)
    assert read(None, environ={}, flags={}).stack == reading.stack
    assert text.count("spot:\n") == 1
    found = find(("models", "chat", "deploy", "pools", "spot", "drain"))
    assert found is not None
    assert found.kind == "duration"
