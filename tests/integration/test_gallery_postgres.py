"""The gallery's store on a PostgreSQL that goes away."""

import pytest

from duetface.errors import GalleryError
from gallery.gallery import Gallery
from tests.servers import PostgresServer
from tests.unit.gallery.world import KEYS, OPTIONS, SPACE, World, person


@pytest.fixture
def own_server():
    """A server that the test may stop."""
    server = PostgresServer()
    yield server
    server.discard()


def test_a_database_server_that_goes_away_is_said_and_nothing_acknowledged_is_lost(own_server, tmp_path):
    """Refused while it is gone, by a clear line without the password; the same gallery goes on when it is back."""
    url = own_server.url.replace("postgresql://", "postgresql+psycopg://", 1)
    world = World(tmp_path, url=url)
    world.enrol("alice", 1)
    own_server.stop()
    for refused in (lambda: world.enrol("bob", 2), lambda: world.gallery.verify_similarity("alice", person(1), SPACE)):
        with pytest.raises(GalleryError, match="server cannot be reached"):
            refused()
    with pytest.raises(GalleryError, match="server cannot be reached"):
        Gallery.open(url, "hq", KEYS, world.clock, OPTIONS)
    own_server.start()
    world.enrol("bob", 2)
    assert [change.revision for change in world.gallery.changes()] == [1, 2, 3, 4]
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    assert world.gallery.verify_audit() == 4
    world.gallery.close()


def test_a_line_for_notices_that_breaks_is_said_and_made_anew(own_server, tmp_path):
    """A replica's follower must live on: it polls until the server is back, and is woken again then."""
    url = own_server.url.replace("postgresql://", "postgresql+psycopg://", 1)
    world = World(tmp_path, url=url)
    broken = world.gallery.wakeup()
    own_server.stop()
    with pytest.raises(GalleryError, match="server cannot be reached"):
        broken.wait(10)
    broken.close()
    with pytest.raises(GalleryError, match="server cannot be reached"):
        world.gallery.wakeup()
    own_server.start()
    line = world.gallery.wakeup()
    world.enrol("alice", 1)
    assert line.wait(10)
    line.close()
    world.gallery.close()
