"""The whole gallery over each kind of index: named, filled, followed, restarted and erased alike."""

import itertools
from dataclasses import replace

import pytest

from duetface.errors import ConfigError, GalleryError
from gallery.gallery import Gallery, GalleryOptions
from gallery.indexes import IndexKind, IndexSettings, index_factory
from gallery.keys import HeldKeys
from tests.servers import MilvusServer, PostgresServer, milvus_server, postgres_server
from tests.unit.gallery.world import OPERATOR, OPTIONS, OTHER_SPACE, SPACE, StandingClock, World, consent, person

_NUMBERS = itertools.count(1)


def settings_of(kind: IndexKind) -> IndexSettings:
    """With the address of the tests' server, where one is needed; skips where there is none."""
    if kind is IndexKind.PGVECTOR:
        server, name = postgres_server(), f"index_{next(_NUMBERS)}"
        server.run(f"DROP DATABASE IF EXISTS {name}")
        server.run(f"CREATE DATABASE {name}")
        return IndexSettings(kind, url=server.url.replace("/postgres?", f"/{name}?", 1))
    if kind is IndexKind.MILVUS:
        return IndexSettings(kind, url=milvus_server().uri, replica=f"r{next(_NUMBERS)}")
    return IndexSettings(kind)


@pytest.fixture(params=list(IndexKind))
def options(request) -> GalleryOptions:
    """Options with each kind of index."""
    return replace(OPTIONS, index_factory=index_factory(settings_of(request.param)))


def opened(world: World, options: GalleryOptions) -> Gallery:
    """The world's gallery, opened anew with these options."""
    world.gallery.close()
    world.options = options
    world.gallery = Gallery.open(world.url, "hq", world.keys, world.clock, options)
    return world.gallery


def test_people_are_found_whatever_searches(tmp_path, options):
    """The kind of index is a matter of size, never of answers."""
    world = World(tmp_path)
    gallery = opened(world, options)
    world.enrol("alice", 1)
    world.enrol("bob", 2)
    (found,) = gallery.identify(person(1, capture=9), SPACE, k=1)
    assert found.subject_id == "alice"
    assert found.cosine_similarity == pytest.approx(float(person(1, 9) @ person(1, 0)), abs=5e-5)
    gallery.delete_subject("alice", OPERATOR)
    assert [match.subject_id for match in gallery.identify(person(1, 9), SPACE, k=5)] == ["bob"]
    gallery.close()


def test_a_start_takes_out_what_was_deleted_meanwhile(tmp_path, options):
    """An index that outlives the process must not keep somebody whom another process has deleted."""
    world = World(tmp_path)
    gallery = opened(world, options)
    world.enrol("alice", 1)
    world.enrol("bob", 2)
    gallery.close()
    other = Gallery.open(world.url, "hq", world.keys, world.clock, OPTIONS)
    other.delete_subject("alice", OPERATOR)
    other.close()
    gallery = opened(world, options)
    assert [match.subject_id for match in gallery.identify(person(1, 9), SPACE, k=5)] == ["bob"]
    (space,) = gallery.statistics().spaces
    assert space.templates == 1
    gallery.close()


def test_two_realms_of_two_databases_may_share_a_server(tmp_path, options):
    """Each is number 1 in its own database; a start of one must neither find nor clean up the other's templates."""
    worlds = []
    for realm, secret in (("hq", b"r"), ("lab", b"R")):
        (tmp_path / realm).mkdir()
        keys = HeldKeys({1: secret * 32}, {1: secret * 32})
        worlds.append(Gallery.create(str(tmp_path / realm / "g.db"), realm, keys, StandingClock(), options))
    for number, gallery in enumerate(worlds):
        gallery.create_subject(f"s{number}", "", consent(StandingClock()), OPERATOR)
        gallery.add_template(f"s{number}", SPACE, person(number), 0.5, "d", OPERATOR)
    for number, gallery in enumerate(worlds):
        assert [match.subject_id for match in gallery.identify(person(number), SPACE, k=9)] == [f"s{number}"]
        gallery.close()


def test_templates_of_another_space_are_never_compared(tmp_path, options):
    """Each space has an index of its own, in every kind."""
    world = World(tmp_path)
    gallery = opened(world, options)
    world.enrol("alice", 1)
    gallery.create_subject("bob", "", consent(world.clock), OPERATOR)
    gallery.add_template("bob", OTHER_SPACE, person(1), 0.5, "d", OPERATOR)
    assert [match.subject_id for match in gallery.identify(person(1), SPACE, k=9)] == ["alice"]
    assert [match.subject_id for match in gallery.identify(person(1), OTHER_SPACE, k=9)] == ["bob"]
    gallery.close()


@pytest.mark.parametrize("server", [PostgresServer, MilvusServer])
def test_an_index_server_that_goes_away_costs_no_enrolment(tmp_path, server):
    """What is committed is acknowledged; a search says what is missing, and finds everybody once it is back."""
    running = server()
    if server is PostgresServer:
        settings = IndexSettings(IndexKind.PGVECTOR, url=running.url)
    else:
        settings = IndexSettings(IndexKind.MILVUS, url=running.uri)
    world = World(tmp_path)
    gallery = opened(world, replace(OPTIONS, index_factory=index_factory(settings)))
    world.enrol("alice", 1)
    running.stop()
    world.enrol("bob", 2)
    with pytest.raises(GalleryError, match="nothing acknowledged was lost"):
        gallery.identify(person(1), SPACE)
    # Who claims to be somebody is compared with the store alone, and needs no index.
    assert gallery.verify_similarity("bob", person(2), SPACE, at_least_revision=gallery.revision) > 0.99
    running.start()
    for number, name in ((1, "alice"), (2, "bob")):
        assert gallery.identify(person(number), SPACE)[0].subject_id == name
    gallery.close()
    running.discard()


@pytest.mark.parametrize("kind", [IndexKind.PGVECTOR, IndexKind.MILVUS])
def test_a_server_without_an_address_is_refused(kind):
    """Misuse is told at the start, with what to do."""
    with pytest.raises(ConfigError, match="needs the URL of its server"):
        index_factory(IndexSettings(kind))


def test_an_absent_server_keeps_the_gallery_from_starting(tmp_path):
    """Better no service than one that rejects everybody."""
    postgres_server()  # skips without the packages
    world = World(tmp_path)
    world.enrol("alice", 1)
    absent = IndexSettings(IndexKind.PGVECTOR, url="postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(GalleryError, match=r"PostgreSQL database nowhere at 127\.0\.0\.1: cannot be reached"):
        opened(world, replace(OPTIONS, index_factory=index_factory(absent)))
