"""The files under deploy/: valid against their schemas, and saying what the code expects."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recognition_service.config import Listen
from recognition_service.service import READY_FILE
from recognition_service.state import create_state

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: it comes with kubernetes-validate")
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def manifest(kind: str) -> dict[str, Any]:
    """The one manifest of a kind."""
    (found,) = [one for path in KUBERNETES for one in documents(path) if one["kind"] == kind]
    return found


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_manifests_are_valid_kubernetes(path):
    """Strictly against the newest schema known: a field that is misspelt is no field."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in documents(path):
        validate.validate(document, validate.latest_version(), strict=True)


def test_every_selector_finds_the_pods():
    """A Service, budget or policy that selects nothing protects nothing."""
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    for found in (
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert found.items() <= labels.items()


def test_one_port_is_meant_everywhere():
    """Default of the code, image, compose file and manifests."""
    port = int(Listen().address.rpartition(":")[2])
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert manifest("Service")["spec"]["ports"][0]["port"] == port
    assert manifest("NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]
    (compose,) = documents(DEPLOY / "compose.yaml")
    assert compose["services"]["recognition"]["ports"] == [f"{port}:{port}"]


def test_no_container_may_more_than_it_needs():
    """Whoever takes over the process gets neither root nor a place to write."""
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in [*pod["containers"], *pod["initContainers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_init_container_lays_the_state_folder_out_as_the_service_reads_it(tmp_path):
    """Its script is run here on a real state folder; files must come out readable by their owner alone."""
    from datetime import UTC, datetime

    create_state(tmp_path / "state", "hq", datetime.now(UTC))
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(tmp_path / "state" / "config.toml", secret)
    for folder in ("keys", "server"):
        shutil.copytree(tmp_path / "state" / folder, secret / folder)
    (secret / "ca").mkdir()
    shutil.copy(tmp_path / "state" / "ca" / "ca.crt", secret / "ca")
    for path in secret.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["initContainers"]
    script = container["args"][0].replace("/secret", str(secret)).replace("/var/lib/duetface", str(tmp_path / "out"))
    subprocess.run([*container["command"], script], check=True, timeout=30)
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found.keys() >= {"config.toml", "keys/realm.key", "keys/rotation.key", "server/server.key", "ca/ca.crt"}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}


def test_probes_look_for_the_file_that_a_ready_service_makes():
    """An open port says nothing: it is bound while the gallery is still being loaded."""
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    state = container["args"][container["args"].index("--state") + 1]
    command = ["test", "-e", f"{state}/{READY_FILE}"]
    assert container["startupProbe"]["exec"]["command"] == command
    assert container["readinessProbe"]["exec"]["command"] == command
    (compose,) = documents(DEPLOY / "compose.yaml")
    assert compose["services"]["recognition"]["healthcheck"]["test"] == ["CMD", *command]


def test_the_settings_that_the_headers_name_are_settings(tmp_path):
    """What an operator copies from a comment must be understood by the service, and its folders must be mounted."""
    from recognition_service.config import load_config

    text = (DEPLOY / "kubernetes" / "recognition.yaml").read_text(encoding="utf-8")
    named = re.findall(r"^# +\[(\w+)\] (\w+ = .*)$", text, re.M)
    assert {section for section, _ in named} == {"storage", "replica"}
    (tmp_path / "config.toml").write_text("".join(f"[{section}]\n{line}\n" for section, line in named), "utf-8")
    config = load_config(tmp_path)
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    mounted = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert config.snapshot_path is not None and config.snapshot_path.parent in mounted
    assert config.database_url.startswith("postgresql+psycopg://")


def test_the_compose_file_holds_together():
    """Every volume, network and secret that a service names is declared; the database is not published."""
    (compose,) = documents(DEPLOY / "compose.yaml")
    for service in compose["services"].values():
        assert {"image", "restart", "networks"} <= service.keys()
        assert set(service["networks"]) <= compose["networks"].keys()
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        named = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert {name for name in named if not name.startswith((".", "/"))} <= compose["volumes"].keys()
        assert set(service.get("depends_on", {})) <= compose["services"].keys()
    assert "ports" not in compose["services"]["database"]
    assert "wal_recycle=off" in compose["services"]["database"]["command"]


@pytest.mark.parametrize("name", ["duetface.service", "duetface-agent@.service"])
def test_units_are_valid_systemd(name, tmp_path):
    """By systemd's own check, with the command put where it looks for it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").replace("/opt/duetface/bin/duetface", "/bin/true")
    unit = tmp_path / name
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if name.replace("@.", "@i.") in line]
    assert complaints == []


def test_units_and_image_call_commands_that_exist():
    """A renamed command or option must not be found out at boot."""
    from typer.main import get_command

    from cli.main import app

    root: Any = get_command(app)
    for name, command in (("duetface.service", "serve"), ("duetface-agent@.service", "agent")):
        line = re.search(
            r"^ExecStart=\S+/duetface (.*)$", (DEPLOY / "systemd" / name).read_text(encoding="utf-8"), re.M
        )
        assert line is not None
        words = line[1].split()
        assert words[0] == command
        options = {option for parameter in root.commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_the_image_installs_extras_that_exist():
    """The names of extras stand in three places."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    named = re.findall(r"EXTRAS=([a-z,]+)", text)
    assert named
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
