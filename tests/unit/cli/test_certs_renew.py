"""`certs renew`: a new certificate for the service, and nothing to do anywhere else."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from duetface.authority import Authority
from duetface.client import Client
from duetface.errors import ConfigError
from duetface.identity import ClientIdentity, write_private
from recognition_service.config import load_config
from recognition_service.running import RunningService
from tests.fakes.network import ProjectionEmbedder, fake_network
from tests.unit.cli.conftest import Run


def certificate_of(state: Path) -> x509.Certificate:
    """The service's certificate."""
    return x509.load_pem_x509_certificate((state / "server" / "server.crt").read_bytes())


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """Names and addresses that it is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name) for kind in (x509.DNSName, x509.IPAddress) for name in names.get_values_for_type(kind)}


def expire(state: Path) -> None:
    """Put a certificate there that ended yesterday."""
    shutil.rmtree(state / "server")
    past = datetime.now(UTC) - timedelta(days=10)
    authority = Authority.load(state / "ca")
    authority.issue_server("recognition", ["localhost", "127.0.0.1", "old.example"], state / "server", past, days=9)


def test_an_expired_service_is_renewed_and_old_clients_connect_as_before(run: Run, state: Path) -> None:
    """A realm that is a year old must not need a visit to every door."""
    expire(state)
    refused = run("serve", "--state", state)
    assert (refused.code, "`duetface certs renew` makes a new one" in refused.err) == (2, True)
    told = run("certs", "renew", "--host", "new.example", "--state", state, "--json")
    assert (told.code, json.loads(told.out)["roles"]) == (0, ["server"])
    assert hosts_of(certificate_of(state)) == {"localhost", "127.0.0.1", "old.example", "new.example"}
    with RunningService(load_config(state), fake_network(ProjectionEmbedder())) as service:
        identity = ClientIdentity.load(state / "clients" / "operator")
        with Client.connect(service.address, identity) as client:
            assert client.info().realm == "test.example"


def test_every_renewal_has_a_new_key_that_only_the_owner_reads(run: Run, state: Path) -> None:
    """A key that leaked is worth nothing after the renewal."""
    before = certificate_of(state).public_key()
    assert run("certs", "renew", "--days", "30", "--state", state).code == 0
    after = certificate_of(state)
    assert after.public_key() != before
    assert timedelta(days=29) < after.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)
    assert (state / "server" / "server.key").stat().st_mode & 0o077 == 0


def test_a_renewal_that_broke_off_between_its_two_files_is_mended_by_the_next(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new key is there, the new certificate is not: the name and the hosts are still in the old one."""

    def fail(path: Path, content: bytes) -> None:
        if path.name == "server.crt":
            raise ConfigError("the power is gone")
        write_private(path, content)

    monkeypatch.setattr("duetface.authority.write_private", fail)
    assert run("certs", "renew", "--state", state).code == 2
    monkeypatch.undo()
    assert "does not belong" in run("serve", "--state", state).err
    assert run("certs", "renew", "--state", state).code == 0
    with RunningService(load_config(state), fake_network(ProjectionEmbedder())):
        pass


def test_a_renewal_needs_the_realms_own_authority(run: Run, state: Path, tmp_path: Path) -> None:
    """Kept elsewhere it is named with --ca; another realm's would lock every client out."""
    shutil.move(state / "ca", tmp_path / "safe")
    missing = run("certs", "renew", "--state", state)
    assert (missing.code, missing.err.count("\n"), "ca.crt" in missing.err) == (2, 1, True)
    assert run("certs", "renew", "--ca", tmp_path / "safe", "--state", state).code == 0
    Authority.create(tmp_path / "other", "test.example", datetime.now(UTC))
    before = certificate_of(state)
    foreign = run("certs", "renew", "--ca", tmp_path / "other", "--state", state)
    assert (foreign.code, "is not the authority" in foreign.err) == (2, True)
    assert certificate_of(state) == before
    wrong = run("certs", "renew", "--host", "a b", "--ca", tmp_path / "safe", "--state", state)
    assert (wrong.code, "--host: got 'a b'" in wrong.err) == (2, True)


def test_a_doctor_names_the_renewal_in_time(run: Run, state: Path) -> None:
    """Thirty days before the end."""
    assert run("certs", "renew", "--days", "20", "--state", state).code == 0
    assert "`duetface certs renew`" in run("doctor", "--state", state).out
