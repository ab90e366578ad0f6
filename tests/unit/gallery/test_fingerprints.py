import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery.fingerprints import WINDOW_BYTES, Fingerprints

KEY = bytes(range(16))


@settings(max_examples=60, deadline=None)
@given(before=st.binary(max_size=70), secret=st.binary(min_size=16, max_size=300), after=st.binary(max_size=70))
def test_a_value_is_found_wherever_it_lies(before, secret, after):
    """Pages put values at any byte offset."""
    prints = Fingerprints.of(KEY, [secret])
    assert prints.found_in(before + secret + after) == len(prints)


def test_a_value_across_the_edge_of_two_chunks_is_found(monkeypatch):
    """Files are searched in pieces that must overlap."""
    monkeypatch.setattr("gallery.fingerprints._CHUNK_BYTES", 64)
    secret = os.urandom(40)
    prints = Fingerprints.of(KEY, [secret])
    for offset in range(80):
        assert prints.found_in(bytes(offset) + secret + bytes(100)) == len(prints), offset


def test_a_value_across_the_edge_of_two_pieces_of_a_file_is_found(tmp_path, monkeypatch):
    """A file is read in pieces that must overlap, and is found once however many pieces it lies in."""
    monkeypatch.setattr("gallery.unpacking._PIECE_BYTES", 64)
    secret = os.urandom(40)
    prints = Fingerprints.of(KEY, [secret])
    for offset in range(80):
        (tmp_path / "file").write_bytes(bytes(offset) + secret + bytes(100) + secret)
        assert prints.found_in_files([tmp_path / "file"]) == {tmp_path / "file": len(prints)}, offset


def test_a_file_that_is_cut_short_during_its_search_is_no_error(tmp_path, monkeypatch):
    """Another process may empty the write-ahead log at any time; reading what was mapped would kill this one."""
    monkeypatch.setattr("gallery.unpacking._PIECE_BYTES", 1 << 16)
    (tmp_path / "log").write_bytes(os.urandom(1 << 20))
    prints, steps = Fingerprints.of(KEY, [os.urandom(40)]), []

    def cut():
        steps.append(None)
        (tmp_path / "log").write_bytes(b"")

    assert prints.found_in_files([tmp_path / "log"], cut) == {}
    assert 0 < len(steps) < 100  # of 128 steps for the whole file


def test_among_very_many_values_each_is_found_and_no_other():
    """A purge erases thousands at once: their search takes the larger table."""
    secrets = [os.urandom(48) for _ in range(20_000)]
    prints = Fingerprints.of(KEY, secrets)
    assert prints.found_in(b"".join(secrets[:5]) + os.urandom(1 << 20)) == len(Fingerprints.of(KEY, secrets[:5]))
    last = prints.values.max()
    assert prints._held(np.array([last, last ^ np.uint64(1)]), *prints._table()) == [last]


def test_what_is_left_of_a_value_overwritten_from_one_end_is_found():
    """A stale row in a page loses its front or its back first."""
    secret = os.urandom(2077)
    prints = Fingerprints.of(KEY, [secret])
    assert prints.found_in(bytes(1900) + secret[1900:]) >= 1
    assert prints.found_in(secret[:177] + bytes(1900)) >= 1


def test_other_bytes_are_not_found():
    """A false trace would make an operator delete good copies: none in 8 MB of noise, nor in zeros."""
    prints = Fingerprints.of(KEY, [os.urandom(2000) for _ in range(20)])
    assert prints.found_in(os.urandom(8 << 20)) == 0
    assert prints.found_in(bytes(1 << 20)) == 0
    assert prints.found_in(b"short") == 0


def test_the_same_value_has_other_fingerprints_under_another_key():
    """Two receipts of one person do not look alike."""
    secret = os.urandom(100)
    one, other = Fingerprints.of(KEY, [secret]), Fingerprints.of(bytes(range(1, 17)), [secret])
    assert not set(one.values.tolist()) & set(other.values.tolist())


def test_fingerprints_survive_storage():
    """Key and values, in this order."""
    prints = Fingerprints.of(KEY, [os.urandom(500)])
    again = Fingerprints.from_bytes(prints.to_bytes())
    assert again.key == prints.key and again.values.tolist() == prints.values.tolist()


def test_values_shorter_than_a_window_are_left_out():
    """They would be found by chance in any file."""
    assert len(Fingerprints.of(KEY, [b"x" * (WINDOW_BYTES - 1), b""])) == 0


def test_files_are_searched_and_named(tmp_path):
    """Empty files too; those that hold something are told with how many windows."""
    secret = os.urandom(64)
    prints = Fingerprints.of(KEY, [secret])
    (tmp_path / "empty").touch()
    (tmp_path / "clean").write_bytes(os.urandom(1000))
    (tmp_path / "dirty").write_bytes(os.urandom(999) + secret)
    found = prints.found_in_files(sorted(tmp_path.iterdir()))
    assert found == {tmp_path / "dirty": len(prints)}
