"""The realm's secrets in environment variables, e.g. from a secret store that hands them to a container.

NAME is version 1, NAME_2 version 2, and so on; each holds 32 bytes in base64 (`openssl rand -base64 32`).
"""

import base64
import binascii
import re
from collections.abc import Mapping, MutableMapping

from duetface.errors import ConfigError
from gallery.keys import HeldKeys, KeyKind


class VariableKeys(HeldKeys):
    """Secrets that came from variables, whose next versions only an operator can set."""

    def __init__(
        self, realm_keys: Mapping[int, bytes], rotation_seeds: Mapping[int, bytes], names: Mapping[KeyKind, str]
    ) -> None:
        """names: of the variables."""
        super().__init__(realm_keys, rotation_seeds)
        self._names = names

    def add_version(self, kind: KeyKind, version: int) -> None:
        """See KeyProvider."""
        raise ConfigError(
            f"set the environment variable {self._names[kind]}_{version} to what `openssl rand -base64 32` prints, for "
            "the service, then for this command, and run it again"
        )


def read_key_variables(environment: MutableMapping[str, str], realm: str, rotation: str) -> VariableKeys:
    """Take the secrets out of the environment, so that no child process inherits them and no dump shows them.

    environment: of this process.  realm, rotation: names of the variables.
    Raises ConfigError naming the variable when one is missing or malformed; never repeats a value.
    """
    held = {name: _take(environment, name) for name in (realm, rotation)}
    for name, versions in held.items():
        if not versions:
            raise ConfigError(f"the environment variable {name} is not set: it holds the key (32 bytes in base64)")
    return VariableKeys(held[realm], held[rotation], {"realm": realm, "rotation": rotation})


def _take(environment: MutableMapping[str, str], name: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for variable in list(environment):
        if match := re.fullmatch(rf"{re.escape(name)}(?:_([1-9][0-9]*))?", variable):
            found[int(match[1] or 1)] = _decoded(variable, environment.pop(variable))
    return found


def _decoded(variable: str, value: str) -> bytes:
    try:
        secret = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        # The cause is not chained: its traceback would hold the value.
        raise ConfigError(f"the environment variable {variable} is not base64: make it by openssl") from None
    if len(secret) != 32:
        raise ConfigError(f"the environment variable {variable} holds {len(secret)} bytes: expected 32, in base64")
    return secret
