"""Keys from the environment and from a token, by `[keys]` of config.toml: used by service and commands alike."""

import base64
import json
import os
from pathlib import Path

import pytest

from cli.main import main
from gallery.key_settings import open_keys
from recognition_service.config import load_config
from recognition_service.running import RunningService
from tests.fakes.network import ProjectionEmbedder, fake_network
from tests.unit.cli.conftest import Run
from tests.unit.gallery.test_key_token import LABELS, PIN, module  # noqa: F401  # a fixture


def choose(state: Path, source: str, **keys: str) -> None:
    """Write settings of [keys] into config.toml."""
    path = state / "config.toml"
    text = path.read_text("utf-8").replace('source = "file"', f'source = "{source}"')
    for key, value in keys.items():
        text = text.replace(f'\n{key} = ""', f"\n{key} = {json.dumps(value)}")
        text = text.replace(f'\n{key} = "duetface"', f"\n{key} = {json.dumps(value)}")
    path.write_text(text, "utf-8")


def one_line(ran, expected: str) -> None:
    """Refused with exit 2 by one last line that says this."""
    last = ran.err.strip().splitlines()[-1]
    assert (ran.code, last.startswith("duetface: "), expected in last) == (2, True, True), ran


COMMANDS = [("serve", "--listen", "127.0.0.1:50998"), ("audit", "verify"), ("gallery", "purge", "--dry-run")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_keys_come_from_variables_and_are_named_when_missing(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The service and every command that opens the gallery say the same."""
    secrets = {kind: (state / "keys" / f"{kind.lower()}.key").read_bytes() for kind in ("REALM", "ROTATION")}
    choose(state, "environment")
    one_line(run(*command, "--state", state), "the environment variable DUETFACE_REALM_KEY is not set")
    for kind, secret in secrets.items():
        (state / "keys" / f"{kind.lower()}.key").unlink()
        monkeypatch.setenv(f"DUETFACE_{kind}_KEY", base64.b64encode(secret[:31]).decode())
    one_line(run(*command, "--state", state), "DUETFACE_REALM_KEY holds 31 bytes: expected 32")
    for kind in secrets:
        monkeypatch.setenv(f"DUETFACE_{kind}_KEY", base64.b64encode(bytes(32)).decode())
    if command[0] != "serve":  # it would load the networks first
        one_line(run(*command, "--state", state), "was made with another realm key")
    for kind, secret in secrets.items():
        monkeypatch.setenv(f"DUETFACE_{kind}_KEY", base64.b64encode(secret).decode())
    assert run("audit", "verify", "--state", state).code == 0
    assert "DUETFACE_REALM_KEY" not in os.environ


def test_a_rotation_of_variables_asks_the_operator_for_the_next(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First version 2 beside the files, to which everybody moves; then version 3, which nobody has made yet."""
    choose(state, "environment")
    seconds = {f"DUETFACE_{kind}_KEY_2": base64.b64encode(os.urandom(32)).decode() for kind in ("REALM", "ROTATION")}
    for name, value in seconds.items():
        monkeypatch.setenv(name, value)
    moved = run("gallery", "rotate-keys", "--state", state, "--json")
    assert (moved.code, json.loads(moved.out)["versions"]) == (0, {"realm": 2, "rotation": 2}), moved.err
    assert "DUETFACE_REALM_KEY_2" not in os.environ
    for name, value in seconds.items():
        monkeypatch.setenv(name, value)
    asked = run("gallery", "rotate-keys", "--state", state)
    one_line(asked, "set the environment variable DUETFACE_REALM_KEY_3 to what `openssl rand -base64 32` prints")


def test_a_realm_is_served_and_its_keys_rotated_in_a_token(
    run: Run,
    state: Path,
    module: Path,  # noqa: F811
) -> None:
    """From files into the token by rotating, then served from it alone, and rotated again inside."""
    pin = state / "pin"
    pin.touch(mode=0o600)
    pin.write_text(PIN)
    choose(state, "pkcs11", module=str(module), token="hq", label=next(LABELS), pin_file="pin")
    moved = run("gallery", "rotate-keys", "--state", state, "--json")
    assert (moved.code, json.loads(moved.out)["versions"]) == (0, {"realm": 2, "rotation": 2}), moved.err
    for path in (state / "keys").iterdir():
        path.unlink()
    config = load_config(state)
    with RunningService(config, fake_network(ProjectionEmbedder()), keys=open_keys(config.key_settings, {})):
        again = run("gallery", "rotate-keys", "--state", state, "--json")
        assert (again.code, json.loads(again.out)["versions"]) == (0, {"realm": 3, "rotation": 3}), again.err
    assert run("audit", "verify", "--state", state).code == 0
    assert "(pkcs11)" in run("doctor", "--state", state).out
    pin.chmod(0o644)
    one_line(run("audit", "verify", "--state", state), "pin can be read by others")
    pin.chmod(0o600)
    choose(state, "pkcs11")
    path = state / "config.toml"
    path.write_text(path.read_text("utf-8").replace('token = "hq"', 'token = "gone"'), "utf-8")
    one_line(run("serve", "--state", state), "no token 'gone' in")


def test_settings_of_keys_that_cannot_be_are_refused_by_name(run: Run, state: Path) -> None:
    """Before anything is opened."""
    path = state / "config.toml"
    text = path.read_text("utf-8")
    path.write_text(text.replace('source = "file"', 'source = "cloud"'), "utf-8")
    one_line(run("serve", "--state", state), "keys.source: Input should be 'file', 'environment' or 'pkcs11'")
    path.write_text(text.replace('"DUETFACE_REALM_KEY"', '"A KEY"'), "utf-8")
    one_line(run("serve", "--state", state), "keys.realm_variable")
    path.write_text(text.replace('source = "file"', 'source = "pkcs11"'), "utf-8")
    one_line(run("serve", "--state", state), "needs module, the PKCS#11 library, and token")


def test_a_missing_package_for_tokens_is_named_with_its_extra(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site without a token need not install it."""
    choose(state, "pkcs11", module="/usr/lib/none.so", token="hq")
    monkeypatch.setenv("DUETFACE_TOKEN_PIN", "1")
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    monkeypatch.delitem(__import__("sys").modules, "gallery.key_token", raising=False)
    assert main(["audit", "verify", "--state", str(state)]) == 2
    assert "pip install 'duetface[hsm]'" in capsys.readouterr().err
