"""What the vault has ready when a gallery is open."""

from gallery.gallery import Gallery
from gallery.keys import HeldKeys
from tests.unit.gallery.world import OPERATOR, OPTIONS, SPACE, person


class CountingKeys(HeldKeys):
    """Keys that count how often a seed of a rotation is taken from them."""

    seeds_taken = 0

    def rotation_seed(self, version: int) -> bytes:
        """See KeyProvider."""
        self.seeds_taken += 1
        return super().rotation_seed(version)


def test_no_request_makes_a_rotation_matrix(world):
    """One takes 0.4 s: forty first requests at once would each make it, and miss their deadlines."""
    world.enrol("alice", 1)
    keys = CountingKeys({1: b"r" * 32}, {1: b"s" * 32, 2: b"S" * 32})
    with Gallery.open(world.url, "hq", keys, world.clock, OPTIONS) as opened:
        before = keys.seeds_taken
        assert opened.identify(person(1), SPACE)[0].subject_id == "alice"
        assert opened.verify_similarity("alice", person(1), SPACE) > 0.99
        opened.add_template("alice", SPACE, person(1, 1), 0.5, "door-1", OPERATOR)
        assert keys.seeds_taken == before
