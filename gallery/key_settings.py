"""Where a realm's secrets lie by name, and opening them; a device's package is imported when asked for."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from duetface.errors import ConfigError
from duetface.identity import read_private
from gallery.key_files import FileKeys, has_key_files
from gallery.key_variables import read_key_variables
from gallery.keys import CombinedKeys, KeyProvider, require_both


class KeySource(StrEnum):
    """See docs/operations.md for how to move from one to another."""

    FILE = "file"
    ENVIRONMENT = "environment"
    PKCS11 = "pkcs11"


@dataclass(frozen=True)
class KeySettings:
    """folder: of key files.  realm_variable, rotation_variable: environment variables that hold version 1.

    module, token, label: see gallery.key_token.TokenSettings.  The PIN is in pin_file (mode 0600), or in pin_variable.
    """

    source: KeySource
    folder: Path
    realm_variable: str = "DUETFACE_REALM_KEY"
    rotation_variable: str = "DUETFACE_ROTATION_KEY"
    module: Path | None = None
    token: str = ""
    label: str = "duetface"
    pin_file: Path | None = None
    pin_variable: str = "DUETFACE_TOKEN_PIN"


def open_keys(settings: KeySettings, environment: MutableMapping[str, str]) -> KeyProvider:
    """Open what is configured; key files that are still there go on opening what was sealed under them.

    environment: of this process; secrets are taken out of it.
    Raises ConfigError, naming file, variable or token and the remedy, for whatever is missing or wrong.
    """
    if settings.source is KeySource.FILE:
        return FileKeys(settings.folder)
    if settings.source is KeySource.ENVIRONMENT:
        keys: KeyProvider = read_key_variables(environment, settings.realm_variable, settings.rotation_variable)
    else:
        keys = _open_token(settings, environment)
    if has_key_files(settings.folder):
        keys = CombinedKeys([FileKeys(settings.folder, whole=False), keys])
    return keys


def _open_token(settings: KeySettings, environment: MutableMapping[str, str]) -> KeyProvider:
    if settings.module is None or not settings.token:
        raise ConfigError('[keys] source = "pkcs11" needs module, the PKCS#11 library, and token, the token\'s label')
    pin = _pin(settings, environment)
    from gallery.key_token import TokenKeys, TokenSettings

    keys = TokenKeys(TokenSettings(settings.module, settings.token, settings.label, pin))
    if not has_key_files(settings.folder):
        require_both(keys, f"the token {settings.token}")
    return keys


def _pin(settings: KeySettings, environment: MutableMapping[str, str]) -> str:
    if settings.pin_file is not None:
        return read_private(settings.pin_file).decode("utf-8", "replace").strip()
    pin = environment.pop(settings.pin_variable, "")
    if not pin:
        raise ConfigError(
            f"the token's PIN is missing: set the environment variable {settings.pin_variable}, or name a file of mode "
            "0600 in [keys] pin_file"
        )
    return pin
