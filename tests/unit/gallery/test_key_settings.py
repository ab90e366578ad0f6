"""Where the realm's secrets lie: files, environment variables, and what is said when they are wrong."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from duetface.errors import ConfigError
from gallery.key_files import create_key_files
from gallery.key_settings import KeySettings, KeySource, open_keys

KEY, SEED = bytes(range(32)), bytes(range(32, 64))


def in_base64(secret: bytes) -> str:
    """As a variable holds it."""
    return base64.b64encode(secret).decode()


def variables(**further: str) -> dict[str, str]:
    """An environment with version 1 of both secrets, and more."""
    return {
        "PATH": "/bin",
        "DUETFACE_REALM_KEY": in_base64(KEY),
        "DUETFACE_ROTATION_KEY": in_base64(SEED),
        **further,
    }


def settings(folder: Path, source: KeySource = KeySource.ENVIRONMENT, **further) -> KeySettings:
    """With key files, if any, in a folder."""
    return KeySettings(source, folder / "keys", **further)


def test_keys_are_taken_out_of_the_environment(tmp_path):
    """A child process, e.g. of a hook, must not inherit them; what is not ours stays."""
    environment = variables(DUETFACE_REALM_KEY_3=in_base64(SEED) + "\n", DUETFACE_REALM_KEY_PATH="/x")
    keys = open_keys(settings(tmp_path), environment)
    assert (keys.realm_key_versions(), keys.rotation_versions()) == ((1, 3), (1,))
    assert keys.rotation_seed(1) == SEED
    assert environment == {"PATH": "/bin", "DUETFACE_REALM_KEY_PATH": "/x"}


def test_the_processs_own_environment_is_cleared_for_its_children(tmp_path, monkeypatch):
    """By unsetenv, not only in Python's dictionary."""
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
    open_keys(settings(tmp_path), os.environ)
    child = subprocess.run(["env"], capture_output=True, text=True, check=True)
    assert "PATH=" in child.stdout and "DUETFACE_R" not in child.stdout


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"DUETFACE_ROTATION_KEY is not set"),
        ("", r"DUETFACE_ROTATION_KEY holds 0 bytes: expected 32"),
        (in_base64(SEED[:31]), r"DUETFACE_ROTATION_KEY holds 31 bytes: expected 32"),
        ("secret-that-is-no-base64!", r"DUETFACE_ROTATION_KEY is not base64"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_never_told(tmp_path, value, message):
    """It would end up in a log."""
    environment = variables()
    environment.pop("DUETFACE_ROTATION_KEY")
    if value is not None:
        environment["DUETFACE_ROTATION_KEY"] = value
    with pytest.raises(ConfigError, match=message) as refusal:
        open_keys(settings(tmp_path), environment)
    assert not value or value not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_new_version_of_a_variable_is_the_operators_to_make(tmp_path):
    """No process can write another's environment."""
    keys = open_keys(settings(tmp_path), variables())
    with pytest.raises(ConfigError, match="openssl rand -base64 32"):
        keys.add_version("realm", 2)


def test_key_files_go_on_opening_beside_variables(tmp_path):
    """Version 1 in files, version 2 in variables: `gallery rotate-keys` moves everything, then the files may go."""
    create_key_files(tmp_path / "keys")
    environment = {"DUETFACE_REALM_KEY_2": in_base64(KEY), "DUETFACE_ROTATION_KEY_2": in_base64(SEED)}
    keys = open_keys(settings(tmp_path), environment)
    assert (keys.realm_key_versions(), keys.rotation_versions()) == ((1, 2), (1, 2))


def test_files_are_the_default_and_named_when_missing(tmp_path):
    """As before there was a choice."""
    with pytest.raises(ConfigError, match=r"realm\.key is missing"):
        open_keys(settings(tmp_path, KeySource.FILE), variables())
    create_key_files(tmp_path / "keys")
    assert open_keys(settings(tmp_path, KeySource.FILE), {}).realm_key_versions() == (1,)


def test_a_token_needs_its_module_its_name_and_a_pin(tmp_path):
    """Said before any library is loaded; the PIN comes from a private file or a variable, never from an argument."""
    with pytest.raises(ConfigError, match=r"needs module.*and token"):
        open_keys(settings(tmp_path, KeySource.PKCS11), {})
    named = {"module": tmp_path / "lib.so", "token": "hq"}
    with pytest.raises(ConfigError, match=r"PIN is missing: set the environment variable DUETFACE_TOKEN_PIN"):
        open_keys(settings(tmp_path, KeySource.PKCS11, **named), {})
    pin = tmp_path / "pin"
    with pytest.raises(ConfigError, match="pin: No such file"):
        open_keys(settings(tmp_path, KeySource.PKCS11, **named, pin_file=pin), {})
    pin.write_text("1234")
    pin.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        open_keys(settings(tmp_path, KeySource.PKCS11, **named, pin_file=pin), {})
