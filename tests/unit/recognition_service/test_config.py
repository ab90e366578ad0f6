"""Settings: what is in the file, what is refused, and that the default file says the truth."""

import tomllib
from pathlib import Path

import pytest

from duetface.errors import ConfigError
from gallery.indexes import IndexKind
from recognition_service.config import LivenessPolicy, ServiceConfig, default_config_text, load_config


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder that holds the default configuration."""
    (tmp_path / "config.toml").write_text(default_config_text(), encoding="utf-8")
    return tmp_path


def test_the_default_file_gives_the_defaults(state: Path) -> None:
    """What `duetface init` writes must mean what an empty file means."""
    assert load_config(state) == ServiceConfig(state=state)


def test_the_default_file_names_every_setting_with_its_meaning() -> None:
    """An operator must find each key where it is set."""
    lines = default_config_text().splitlines()
    parsed = tomllib.loads(default_config_text())
    for section, field in ServiceConfig.model_fields.items():
        if section == "state":
            continue
        settings = type(field.default).model_fields
        assert set(parsed[section]) == set(settings)
        for key, setting in settings.items():
            assert setting.description
            before = lines[next(i for i, line in enumerate(lines) if line.startswith(f"{key} = ")) - 1]
            assert before.startswith("# ")


def test_overrides_of_the_command_line_win(state: Path) -> None:
    """`duetface serve --listen` is meant."""
    config = load_config(state, {"listen": {"address": "0.0.0.0:1"}, "decisions": {"liveness": "required"}})
    assert config.listen.address == "0.0.0.0:1"
    assert config.decisions.liveness is LivenessPolicy.REQUIRED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[listen]\nadress = 'a:1'", r"listen\.adress: unknown setting"),
        ("[lissten]\naddress = 'a:1'", r"lissten: unknown setting"),
        ("[decisions]\ntarget_fmr = 0", r"decisions\.target_fmr: Input should be greater than 0"),
        ("[lock_out]\ndelay_s = 5", r"lock_out\.delay_s: Input should be greater than or equal to 30"),
        ("[freshness]\nnonce_lifetime_s = 31", r"freshness\.nonce_lifetime_s"),
        ("[listen]\naddress = 'nowhere'", r"listen\.address: got 'nowhere', expected HOST:PORT with a port"),
        ("[listen]\naddress = '127.0.0.1:80000'", r"listen\.address: got '127\.0\.0\.1:80000', expected HOST:PORT"),
        ("state = '/elsewhere'", "state: unknown setting"),
        ("[listen", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path: Path, text: str, message: str) -> None:
    """A typing error must not silently mean the default."""
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(tmp_path)
    assert str(tmp_path / "config.toml") in str(refused.value)


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    """The first thing a newcomer does wrong."""
    with pytest.raises(ConfigError, match="run `duetface init`"):
        load_config(tmp_path)


def test_the_environment_changes_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stray variable must not change who is let in."""
    monkeypatch.setenv("DECISIONS", '{"target_fmr": 0.1}')
    monkeypatch.setenv("decisions__target_fmr", "0.1")
    assert load_config(state).decisions.target_fmr == 1e-4


def test_the_database_lies_in_the_state_folder_unless_named(state: Path) -> None:
    """SQLite by default, PostgreSQL by URL."""
    assert load_config(state).database_url == f"sqlite:///{state / 'gallery.db'}"
    named = load_config(state, {"storage": {"database_url": "postgresql+psycopg://db/duetface"}})
    assert named.database_url == "postgresql+psycopg://db/duetface"


def test_the_index_is_made_from_the_settings(state: Path) -> None:
    """pgvector lies in the gallery's own database unless another is named; files lie in the state folder."""
    assert load_config(state).index_settings.kind is IndexKind.FAISS_RABITQ
    url = "postgresql+psycopg://db/duetface"
    beside = load_config(state, {"storage": {"database_url": url}, "index": {"kind": "pgvector"}})
    assert beside.index_settings.url == url
    (state / "milvus.token").write_text("duetface:secret\n", encoding="utf-8")
    milvus = {"kind": "milvus", "url": "https://milvus:19530", "token_file": "milvus.token", "certificates": "milvus"}
    found = load_config(state, {"index": milvus}).index_settings
    assert (found.token, found.certificates) == ("duetface:secret", state / "milvus")
    with pytest.raises(ConfigError, match="No such file"):
        _ = load_config(state, {"index": milvus | {"token_file": "elsewhere"}}).index_settings


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"next_split": "r2"}, "models: next_split needs next_space: name the template space to move to"),
        ({"until": "spring"}, "models.until: Invalid isoformat string"),
    ],
)
def test_half_a_move_to_another_space_is_refused(state: Path, models: dict[str, str], said: str) -> None:
    """At the start, and not on the day on which the old space should go."""
    with pytest.raises(ConfigError, match=said):
        load_config(state, {"models": models})


def test_an_index_that_outlives_the_process_has_no_snapshot(state: Path) -> None:
    """Restoring one into a table that replicas share would take it away under them."""
    assert load_config(state).snapshot_path == state / "gallery.snapshot"
    assert load_config(state, {"replica": {"snapshot": ""}}).snapshot_path is None
    assert load_config(state, {"index": {"kind": "pgvector"}}).snapshot_path is None


def test_a_service_is_known_by_one_name_through_restarts(state: Path) -> None:
    """And two on one machine by two: an erasure waits for each."""
    name = load_config(state).follower_name
    assert name == load_config(state).follower_name
    assert name != load_config(state, {"listen": {"address": "127.0.0.1:50062"}}).follower_name
    assert load_config(state, {"replica": {"name": "a"}}).follower_name == "a"
