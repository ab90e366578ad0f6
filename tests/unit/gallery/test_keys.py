import stat

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.key_files import FileKeys, create_key_files
from gallery.keys import CombinedKeys, HeldKeys
from gallery.sealing import context, derive, seal, unseal

KEY = bytes(range(32))


def test_what_is_sealed_opens_with_the_same_key_and_context():
    """The round trip; two seals of one value differ, since equal ciphertexts would tell of equal templates."""
    sealed = seal(KEY, b"secret", context("a", 1))
    assert unseal(KEY, sealed, context("a", 1), "it") == b"secret"
    assert seal(KEY, b"secret", context("a", 1)) != sealed


@pytest.mark.parametrize("position", [0, 1, 13, 20, -1])
def test_one_flipped_bit_anywhere_is_refused(position):
    """Format, nonce, ciphertext and tag are all authenticated."""
    sealed = bytearray(seal(KEY, b"secret value", b""))
    sealed[position] ^= 1
    with pytest.raises(GalleryError, match=r"the thing (does not open|is damaged)"):
        unseal(KEY, bytes(sealed), b"", "the thing")


def test_another_key_context_or_length_is_refused():
    """A value moved to another row, cut short, or sealed by somebody else is no value."""
    sealed = seal(KEY, b"secret", context("row", 1))
    for key, value, associated in (
        (bytes(32), sealed, context("row", 1)),
        (KEY, sealed, context("row", 2)),
        (KEY, sealed[:-1], context("row", 1)),
        (KEY, sealed[:10], context("row", 1)),
        (KEY, b"", context("row", 1)),
    ):
        with pytest.raises(GalleryError, match="the thing"):
            unseal(key, value, associated, "the thing")


def test_no_two_contexts_read_alike():
    """Parts are length-prefixed: ("ab", "c") must not authenticate as ("a", "bc")."""
    assert context("ab", "c") != context("a", "bc")
    assert context("a") != context("a", "")
    assert context(1) != context("1")


def test_keys_for_two_purposes_are_unrelated():
    """One leaked derived key must not open what another seals."""
    assert derive(KEY, "a") != derive(KEY, "b")
    assert len(derive(KEY, "a")) == 32


def test_created_key_files_are_private_and_read_back(tmp_path):
    """`init` writes what `serve` reads; nobody else may."""
    folder = tmp_path / "keys"
    create_key_files(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "realm.key": 0o600,
        "rotation.key": 0o600,
    }
    keys = FileKeys(folder)
    assert (keys.realm_key_versions(), keys.rotation_versions()) == ((1,), (1,))
    assert keys.rotation_seed(1) == (folder / "rotation.key").read_bytes()


def test_key_files_are_never_overwritten(tmp_path):
    """A second `init` must not make every template unreadable."""
    create_key_files(tmp_path)
    before = (tmp_path / "realm.key").read_bytes()
    with pytest.raises(ConfigError, match=r"realm\.key exists"):
        create_key_files(tmp_path)
    assert (tmp_path / "realm.key").read_bytes() == before


def test_a_further_version_stands_beside_the_first(tmp_path):
    """Rotation needs both: the old one opens, the new one seals."""
    create_key_files(tmp_path)
    keys = FileKeys(tmp_path)
    keys.add_version("realm", 2)
    keys.add_version("realm", 3)
    keys.add_version("rotation", 2)
    assert (keys.realm_key_versions(), keys.rotation_versions()) == ((1, 2, 3), (1, 2))
    assert keys.unseal(2, keys.seal(2, b"x", b""), b"", "it") == b"x"
    with pytest.raises(GalleryError):
        keys.unseal(1, keys.seal(2, b"x", b""), b"", "it")


@pytest.mark.parametrize("name", ["realm.key", "rotation.key"])
def test_a_missing_key_file_is_named_with_the_remedy(tmp_path, name):
    """A service that starts with a fresh key instead would lose everybody."""
    create_key_files(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name} is missing.*back-up"):
        FileKeys(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    """The most common mistake: another state folder."""
    with pytest.raises(ConfigError, match=r"nowhere/realm\.key is missing"):
        FileKeys(tmp_path / "nowhere")


def test_a_key_that_others_may_read_is_refused(tmp_path):
    """It must be taken as leaked; refusing makes it be noticed."""
    create_key_files(tmp_path)
    (tmp_path / "realm.key").chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640.*chmod 0600"):
        FileKeys(tmp_path)


def test_a_key_of_another_length_is_refused(tmp_path):
    """A truncated file, or a text file."""
    create_key_files(tmp_path)
    (tmp_path / "rotation.key").write_bytes(b"x" * 31)
    with pytest.raises(ConfigError, match="31 bytes: expected 32"):
        FileKeys(tmp_path)


def test_held_keys_never_print_a_key():
    """A repr ends up in logs and tracebacks."""
    keys = HeldKeys({1: b"K" * 32}, {1: b"S" * 32})
    assert "KKKK" not in repr(keys) and "SSSS" not in repr(keys) and "1" in repr(keys)


def test_held_keys_refuse_nothing_and_short_ones():
    """An empty environment variable must not become an empty key."""
    with pytest.raises(ConfigError, match="no realm key"):
        HeldKeys({}, {1: KEY})
    with pytest.raises(ConfigError, match="rotation key 1 has 0 bytes"):
        HeldKeys({1: KEY}, {1: b""})
    with pytest.raises(ConfigError, match="realm key version 2"):
        HeldKeys({1: KEY}, {1: KEY}).derive(2, "x")


def test_a_running_process_takes_up_a_version_that_another_adds_and_keeps_one_that_goes(tmp_path):
    """How keys are rotated under a running service: it meets the new version in a row, or looks by itself."""
    create_key_files(tmp_path)
    running, other = FileKeys(tmp_path), FileKeys(tmp_path)
    other.add_version("realm", 2)
    sealed = other.seal(2, b"x", b"")
    running._seen = running._folder.stat().st_mtime_ns  # two changes within one tick look like none
    assert running.unseal(2, sealed, b"", "it") == b"x"
    other.add_version("rotation", 2)
    assert running.rotation_versions() == (1, 2)
    (tmp_path / "realm.key").unlink()
    assert running.realm_key_versions() == (1, 2)
    assert FileKeys(tmp_path).realm_key_versions() == (2,)


def test_a_bad_file_that_appears_later_is_told_and_stops_nothing(tmp_path, caplog):
    """Somebody copies a key with the wrong mode into a running realm."""
    create_key_files(tmp_path)
    keys = FileKeys(tmp_path)
    (tmp_path / "realm.2.key").write_bytes(KEY)
    (tmp_path / "realm.2.key").chmod(0o644)
    assert keys.realm_key_versions() == (1,)
    assert "key files not read anew" in caplog.text and "mode 0644" in caplog.records[0].cause
    with pytest.raises(ConfigError, match="realm key version 2 is needed but is not there"):
        keys.derive(2, "x")


def test_a_version_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    """A service reads the folder at any moment: half a key must never be seen, nor stay."""
    create_key_files(tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gallery.key_files.os.fsync", full)
    with pytest.raises(ConfigError, match=r"realm\.2\.key cannot be written: No space left"):
        FileKeys(tmp_path).add_version("realm", 2)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["realm.key", "rotation.key"]
    with pytest.raises(ConfigError, match=r"realm\.key exists"):
        FileKeys(tmp_path).add_version("realm", 1)


def test_older_keys_open_beside_newer_ones_of_another_place():
    """How a realm moves from files to a device: the new place seals, the old one opens until nothing needs it."""
    old, new = HeldKeys({1: KEY}, {1: KEY}), HeldKeys({2: b"n" * 32}, {2: b"m" * 32})
    both = CombinedKeys([old, new])
    assert (both.realm_key_versions(), both.rotation_versions()) == ((1, 2), (1, 2))
    assert both.unseal(1, old.seal(1, b"x", b"a"), b"a", "it") == b"x"
    assert new.unseal(2, both.seal(2, b"x", b"a"), b"a", "it") == b"x"
    assert both.derive(1, "p") == old.derive(1, "p")
    assert both.rotation_seed(2) == b"m" * 32
    with pytest.raises(ConfigError, match="rotation key version 3 is needed"):
        both.rotation_seed(3)
    with pytest.raises(ConfigError, match="realm key version 3 cannot be made here"):
        both.add_version("realm", 3)


def test_one_version_in_two_places_must_be_the_same_key():
    """A file left behind by another realm would seal what nobody opens."""
    keys = HeldKeys({1: KEY}, {1: KEY})
    assert CombinedKeys([keys, HeldKeys({1: KEY}, {1: KEY})]).realm_key_versions() == (1,)
    for other in (HeldKeys({1: bytes(32)}, {1: KEY}), HeldKeys({1: KEY}, {1: bytes(32)})):
        with pytest.raises(ConfigError, match="key version 1 is there twice"):
            CombinedKeys([keys, other])
