"""Keys inside a PKCS#11 token, tried on SoftHSM: they seal there, never come out, and move there from files."""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.key_files import create_key_files
from gallery.key_settings import KeySettings, KeySource, open_keys
from tests.unit.gallery.world import SPACE, World, person

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: pip install 'duetface[hsm]'")
MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so")]
PIN = "93175"
LABELS = (f"realm{number}" for number in count())


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SoftHSM's library, with one token "hq" for the whole run: a process loads such a library once."""
    found = next((path for path in MODULES if path.exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed: apt-get install softhsm2")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "hq", "--pin", PIN, "--so-pin", "8888888"]
    subprocess.run(command, check=True, capture_output=True)
    return found


@pytest.fixture
def token(module: Path, tmp_path: Path) -> KeySettings:
    """Settings with keys of their own in the shared token, and the PIN in a private file."""
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(f"{PIN}\n")
    return KeySettings(KeySource.PKCS11, tmp_path / "keys", module=module, token="hq", label=next(LABELS), pin_file=pin)


def made(settings: KeySettings):
    """Keys with version 1 in the token and nowhere else."""
    from gallery.key_token import TokenKeys, TokenSettings

    keys = TokenKeys(TokenSettings(settings.module, settings.token, settings.label, PIN))
    keys.add_version("realm", 1)
    keys.add_version("rotation", 1)
    return open_keys(settings, {})


def test_a_token_seals_and_opens_and_binds_the_context(token):
    """As files do: another context, version or flipped bit is refused."""
    keys = made(token)
    sealed = keys.seal(1, b"subject key", b"place")
    assert keys.unseal(1, sealed, b"place", "it") == b"subject key"
    assert keys.seal(1, b"subject key", b"place") != sealed
    for changed, place in ((sealed, b"other"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"place")):
        with pytest.raises(GalleryError, match="it does not open"):
            keys.unseal(1, changed, place, "it")
    for foreign in (b"", b"\x01" + sealed[1:], sealed[:20]):
        with pytest.raises(GalleryError, match="it was not sealed by the token"):
            keys.unseal(1, foreign, b"place", "it")
    with pytest.raises(ConfigError, match="realm key version 2 is needed"):
        keys.unseal(2, sealed, b"place", "it")


def test_what_is_derived_is_the_same_after_the_next_login_and_differs_by_purpose_and_version(token):
    """Receipts and snapshots must open after a restart."""
    keys = made(token)
    keys.add_version("realm", 2)
    again = open_keys(token, {})
    assert keys.derive(1, "a") == again.derive(1, "a")
    assert len({keys.derive(1, "a"), keys.derive(1, "b"), keys.derive(2, "a"), keys.rotation_seed(1)}) == 4
    assert keys.rotation_seed(1) == again.rotation_seed(1)
    assert (again.realm_key_versions(), again.rotation_versions()) == ((1, 2), (1,))


def test_a_key_never_leaves_the_token_and_a_pin_is_never_printed(token):
    """That is what a token is for."""
    import pkcs11

    keys = made(token)
    for found in keys._found.values():
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            found[pkcs11.Attribute.VALUE]
        assert not found[pkcs11.Attribute.EXTRACTABLE]
    assert PIN not in repr(keys)


def test_a_version_is_never_made_twice(token):
    """Two keys of one name: nobody knows which opens."""
    keys = made(token)
    with pytest.raises(ConfigError, match="has realm key version 1: it is never overwritten"):
        keys.add_version("realm", 1)


def test_a_version_that_another_process_makes_is_taken_up_when_needed_or_in_seconds(token):
    """The service is not asked to look at a slow device after every enrolment."""
    from gallery.key_token import TokenKeys, TokenSettings

    other, now = made(token), [100.0]
    keys = TokenKeys(TokenSettings(token.module, token.token, token.label, PIN), lambda: now[0])
    assert keys.realm_key_versions() == (1,)
    other.add_version("realm", 2)
    assert keys.realm_key_versions() == (1,)
    assert keys.unseal(2, other.seal(2, b"x", b""), b"", "it") == b"x"
    assert keys.realm_key_versions() == (1, 2)
    other.add_version("rotation", 2)
    now[0] += 6
    assert keys.rotation_versions() == (1, 2)


def test_half_a_version_is_no_version_and_is_completed(token):
    """Stopped between the two objects of a realm key."""
    keys = made(token)
    keys._generate("realm", 2)
    assert keys.realm_key_versions() == (1,)
    keys.add_version("realm", 2)
    assert keys.realm_key_versions() == (1, 2)


def test_a_gallery_moves_from_files_into_the_token_by_rotating(token, tmp_path):
    """Nobody has to come back for a picture, and the files may go."""
    create_key_files(token.folder)
    files = KeySettings(KeySource.FILE, token.folder)
    world = World(tmp_path, keys=open_keys(files, {}))
    world.enrol("alice", 1, captures=2)
    gallery = world.reopen(open_keys(token, {}))
    assert not gallery.maintenance.rotation_is_due()
    assert gallery.maintenance.add_key_versions(["realm", "rotation"]) == {"realm": 2, "rotation": 2}
    from tests.unit.gallery.world import OPERATOR

    assert gallery.maintenance.rotate_keys(OPERATOR).subjects == 0
    shutil.rmtree(token.folder)
    gallery = world.reopen(open_keys(token, {}))
    assert gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    assert gallery.subject("alice").label == "label of alice"
    world.enrol("bob", 2)
    assert gallery.verify_similarity("bob", person(2), SPACE) == pytest.approx(1, abs=1e-3)
    gallery.close()


def test_a_wrong_library_token_or_missing_key_is_named_in_one_line(token, tmp_path):
    """Each refuses to start, with what to do."""
    from dataclasses import replace

    with pytest.raises(ConfigError, match=r"the token hq has no realm key: .*restore it"):
        open_keys(token, {})
    with pytest.raises(ConfigError, match=r"no token 'elsewhere' in .*put it in, or name it"):
        open_keys(replace(token, token="elsewhere"), {})
    (tmp_path / "lib.so").write_text("no library")
    with pytest.raises(ConfigError, match=r"lib\.so is no usable PKCS#11 library"):
        open_keys(replace(token, module=tmp_path / "lib.so"), {})


def test_a_wrong_pin_is_refused_in_a_fresh_process(token, tmp_path):
    """A login holds for the whole process, so the wrong PIN is tried in another; it is not repeated."""
    made(token)
    script = (
        "from pathlib import Path\nfrom gallery.key_token import TokenKeys, TokenSettings\n"
        f"TokenKeys(TokenSettings(Path({str(token.module)!r}), 'hq', {token.label!r}, '00000'))\n"
    )
    root = Path(__file__).resolve().parents[3]
    import sys

    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60)
    assert "ConfigError: the token hq refuses the PIN" in ran.stderr
    assert "00000" not in ran.stderr.splitlines()[-1]
