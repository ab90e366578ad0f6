"""The settings of one recognition service: what a site may choose, from config.toml of its state folder.

Unknown keys are refused.  Nothing is read from the environment here; the command line hands overrides in.
The commented default file is generated from the fields below, so the two cannot drift apart.
"""

import hashlib
import json
import platform
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from duetface.address import DEFAULT_ADDRESS, address_fault
from duetface.errors import ConfigError
from gallery.indexes import IndexKind, IndexSettings
from gallery.key_settings import KeySettings, KeySource

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


class LivenessPolicy(StrEnum):
    """What the realm asks of presentation-attack detection on the device."""

    OFF = "off"
    ADVISORY = "advisory"
    REQUIRED = "required"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Section):
    """Where and how the service listens. There is no insecure port."""

    address: str = Field(default=DEFAULT_ADDRESS, description="HOST:PORT to bind")
    max_message_bytes: int = Field(
        default=1_048_576, ge=300_000, le=16_777_216, description="largest request, bytes; a probe has at most 262144"
    )
    max_concurrent_rpcs: int = Field(default=1024, ge=1, le=100_000, description="calls and streams open at once")
    keepalive_s: float = Field(
        default=60.0, ge=10, le=7200, description="seconds of silence after which a peer is probed"
    )
    drain_grace_s: float = Field(default=10.0, ge=0, le=600, description="seconds that accepted work has at shutdown")
    stream_max_age_s: float = Field(
        default=3600.0, ge=1, le=86_400, description="seconds until a stream has to be opened anew"
    )

    @field_validator("address")
    @classmethod
    def _address(cls, address: str) -> str:
        if fault := address_fault(address, any_port=True):  # port 0 is how tests get a free one
            raise ValueError(fault)
        return address


class Models(_Section):
    """Which split and template space are served; empty names mean the shipped defaults.

    While next_space is set, both are served and people move over as they are accepted (docs/operations.md).
    """

    split: str = Field(
        default="",
        description='folder under models/splits; those for comparison only ("paper", "r2") must be named here',
    )
    space: str = Field(default="", description="folder under models/spaces; must belong to the split")
    next_split: str = Field(default="", description="as split, of the space that the gallery moves to")
    next_space: str = Field(default="", description="as space, of that to which the gallery moves; empty: it stays")
    next_captures: int = Field(
        default=3, ge=1, le=20, description="accepted captures of a subject that become templates of the next space"
    )
    next_fmr: float = Field(
        default=1e-5,
        gt=0,
        le=0.1,
        description="false match rate up to which an accepted capture may become such a template",
    )
    until: str = Field(
        default="", description='day on which the old space may go, "2027-03-31"; empty: any, once everybody has moved'
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads of the server network")

    @field_validator("until")
    @classmethod
    def _day(cls, until: str) -> str:
        if until:
            date.fromisoformat(until)  # its own message says what is wrong
        return until

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.next_split and not self.next_space:
            raise ValueError("next_split needs next_space: name the template space to move to")
        return self


class Decisions(_Section):
    """At which operating point decisions are taken."""

    target_fmr: float = Field(default=1e-4, gt=0, le=0.1, description="false match rate of one comparison")
    valid_for_s: float = Field(default=10.0, gt=0, le=300, description="seconds that a decision may be acted upon")
    min_quality: float = Field(default=0.0, ge=0, le=1, description="unified quality below which a capture is retried")
    liveness: LivenessPolicy = Field(
        default=LivenessPolicy.OFF, description='"off", "advisory" or "required": checks on the device'
    )


class Enrolment(_Section):
    """What a capture must fulfil to become a template."""

    min_quality: float = Field(default=0.0, ge=0, le=1, description="unified quality below which a capture is refused")
    warn_quality: float = Field(
        default=0.3, ge=0, le=1, description="unified quality below which the operator is warned"
    )
    max_templates: int = Field(default=20, ge=1, le=1000, description="templates of one subject in one space")


class Freshness(_Section):
    """How old a capture and a nonce may be."""

    capture_max_age_s: float = Field(default=2.0, gt=0, le=60, description="seconds from capture to signing")
    nonce_lifetime_s: float = Field(default=30.0, gt=0, le=30, description="seconds in which a nonce can be spent")
    nonces_per_certificate: int = Field(default=64, ge=1, le=64, description="unspent nonces of one certificate")


class Load(_Section):
    """How much work is taken on. What is above is refused with a retry delay, never queued without bound."""

    rate_per_s: float = Field(
        default=100.0, gt=0, le=100_000, description="lasting requests a second of one certificate"
    )
    burst: int = Field(default=200, ge=1, le=100_000, description="requests at once of one certificate")
    in_flight: int = Field(
        default=64, ge=1, le=10_000, description="calls, streams and health watches open at once of one certificate"
    )
    batch_max: int = Field(default=8, ge=1, le=256, description="faces in one run of the server network")
    batch_wait_ms: float = Field(default=2.0, ge=0, le=100, description="milliseconds a face waits for company")
    queue_max: int = Field(default=256, ge=1, le=100_000, description="faces that wait for the server network")
    deadline_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="seconds for a call that brings no deadline of its own, and for a stream's first message",
    )


class LockOut(_Section):
    """Consecutive failures of one subject or one device (NIST SP 800-63B-4: 5, 30 s, 50)."""

    delay_after: int = Field(default=5, ge=1, le=10, description="failures after which attempts have to wait")
    delay_s: float = Field(default=30.0, ge=30, le=86_400, description="seconds between attempts from then on")
    stop_after: int = Field(default=50, ge=1, le=100, description="failures after which there are no more attempts")
    count_searches: bool = Field(
        default=False,
        description="whether a rejected 1:N search counts against its device: a passer-by claimed nothing",
    )


class Storage(_Section):
    """Where the gallery lies."""

    database_url: str = Field(default="", description="SQLAlchemy URL; empty means gallery.db in the state folder")
    busy_timeout_ms: int = Field(
        default=5000, ge=0, le=60_000, description="milliseconds that a write waits for another process's lock (SQLite)"
    )


class Keys(_Section):
    """Where the realm's secrets lie; docs/operations.md says how to move from files to another place."""

    source: KeySource = Field(
        default=KeySource.FILE, description='"file" (folder keys), "environment", or "pkcs11", a token that keeps them'
    )
    realm_variable: str = Field(
        default="DUETFACE_REALM_KEY", pattern=_VARIABLE, description="environment variable with the realm key in base64"
    )
    rotation_variable: str = Field(
        default="DUETFACE_ROTATION_KEY", pattern=_VARIABLE, description="environment variable with the rotation's seed"
    )
    module: str = Field(default="", description="PKCS#11 library of the token's maker")
    token: str = Field(default="", description="label of the token")
    label: str = Field(default="duetface", min_length=1, max_length=64, description="begins the labels of its keys")
    pin_file: str = Field(default="", description="file with the token's PIN, mode 0600; empty: pin_variable")
    pin_variable: str = Field(
        default="DUETFACE_TOKEN_PIN", pattern=_VARIABLE, description="environment variable with the token's PIN"
    )


class Index(_Section):
    """What searches the gallery; docs/operations.md says when to move on."""

    kind: IndexKind = Field(
        default=IndexKind.FAISS_RABITQ,
        description='"faiss-exact", "faiss-rabitq" (up to ten million), "pgvector" or "milvus"',
    )
    threads: int = Field(default=2, ge=1, le=256, description="threads of one search (faiss-rabitq)")
    url: str = Field(
        default="",
        description="of the index's PostgreSQL (empty: storage.database_url), or http(s)://HOST:PORT of Milvus",
    )
    token_file: str = Field(default="", description="file with Milvus's USER:PASSWORD or API key")
    certificates: str = Field(
        default="", description="folder with client.crt, client.key and ca.crt for mutual TLS with Milvus"
    )
    server_name: str = Field(default="", description="as in the certificate of Milvus")


class Replica(_Section):
    """This service among those that share the realm, and what it starts from."""

    name: str = Field(
        default="",
        pattern=r"^[a-z0-9]{0,8}$",
        description="tells services apart that share a database or a Milvus; empty: by host and address",
    )
    poll_s: float = Field(
        default=1.0, ge=0.05, le=60, description="seconds after which changes of others are looked for, told or not"
    )
    snapshot: str = Field(
        default="gallery.snapshot",
        description="file for a sealed copy of the index, from which a start is fast; empty: none (FAISS only)",
    )
    snapshot_every_min: float = Field(
        default=60.0, ge=1, le=10_080, description="minutes between copies; one more is written at shutdown"
    )


class ServiceConfig(BaseSettings):
    """All settings of one service.  state: its folder, made by `duetface init`; not part of the file."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    state: Path = Field(exclude=True)
    listen: Listen = Listen()
    models: Models = Models()
    decisions: Decisions = Decisions()
    enrolment: Enrolment = Enrolment()
    freshness: Freshness = Freshness()
    load: Load = Load()
    lock_out: LockOut = LockOut()
    storage: Storage = Storage()
    index: Index = Index()
    replica: Replica = Replica()
    keys: Keys = Keys()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: a stray environment variable must not change who is let in."""
        return (init_settings,)

    @property
    def database_url(self) -> str:
        """The URL of the gallery's database."""
        return self.storage.database_url or f"sqlite:///{self.state / 'gallery.db'}"

    @property
    def key_settings(self) -> KeySettings:
        """Where the secrets lie; files are named relative to the state folder."""
        keys = self.keys
        return KeySettings(
            source=keys.source,
            folder=self.state / "keys",
            realm_variable=keys.realm_variable,
            rotation_variable=keys.rotation_variable,
            module=self.state / keys.module if keys.module else None,
            token=keys.token,
            label=keys.label,
            pin_file=self.state / keys.pin_file if keys.pin_file else None,
            pin_variable=keys.pin_variable,
        )

    @property
    def index_settings(self) -> IndexSettings:
        """What the index is made from; its files are named relative to the state folder.

        Raises ConfigError if the token's file cannot be read.
        """
        index = self.index
        beside = self.database_url if index.kind is IndexKind.PGVECTOR else ""
        return IndexSettings(
            kind=index.kind,
            threads=index.threads,
            url=index.url or beside,
            token=_read_text(self.state / index.token_file) if index.token_file else "",
            certificates=self.state / index.certificates if index.certificates else None,
            server_name=index.server_name,
            replica=self.replica.name,
        )

    @property
    def snapshot_path(self) -> Path | None:
        """Where the index is saved; None for one that outlives the process by itself."""
        in_process = self.index.kind in (IndexKind.FAISS_EXACT, IndexKind.FAISS_RABITQ)
        return self.state / self.replica.snapshot if self.replica.snapshot and in_process else None

    @property
    def follower_name(self) -> str:
        """What erasures know this service by: the same after a restart, another for each that runs at a time."""
        place = f"{self.state.resolve()} {self.listen.address}"
        return self.replica.name or f"{platform.node()}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def load_config(state: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> ServiceConfig:
    """Read config.toml of a state folder.

    overrides: section -> key -> value, from the command line; they win over the file.
    Raises ConfigError naming file and key for a missing file, broken TOML, an unknown key or a value out of range.
    """
    path = state / "config.toml"
    sections = _read_toml(path)
    for name, values in (overrides or {}).items():
        sections[name] = {**sections.get(name, {}), **values}
    if "state" in sections:
        raise ConfigError(f"{path}: state: unknown setting")
    try:
        return ServiceConfig(state=state, **sections)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where}: {what}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: run `duetface init` first, or name the right --state folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def default_config_text() -> str:
    """The commented config.toml that `duetface init` writes: every key with its default, range and meaning."""
    lines = ["# DuetFace recognition service. Every key is optional; unknown keys are refused.", ""]
    for name, field in ServiceConfig.model_fields.items():
        if name != "state":
            lines += [*_section_lines(name, field), ""]
    return "\n".join(lines)


def _section_lines(name: str, field: FieldInfo) -> Iterator[str]:
    section = field.default
    yield f"# {' '.join((type(section).__doc__ or '').split())}"
    yield f"[{name}]"
    for key, setting in type(section).model_fields.items():
        yield f"# {setting.description}{_range(setting)}"
        # JSON writes strings, numbers and booleans as TOML does.
        yield f"{key} = {json.dumps(setting.default)}"


def _range(field: FieldInfo) -> str:
    """The limits of a numeric field, as an interval."""
    low = high = ""
    for limit in field.metadata:
        low = f"({limit.gt}" if hasattr(limit, "gt") else f"[{limit.ge}" if hasattr(limit, "ge") else low
        high = f"{limit.le}]" if hasattr(limit, "le") else high
    return f"; in {low}, {high}" if low and high else ""
