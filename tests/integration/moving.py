"""A realm that is moved to PostgreSQL in tests, and what of it must be equal afterwards."""

from pathlib import Path

from gallery.gallery import Gallery
from gallery.moving import MoveReport, move
from gallery.records import Counted, DecisionRecord
from gallery.store import SqlStore
from gallery.transfer import GROWING, OF_SUBJECT, WHOLE
from tests.unit.gallery.world import OPERATOR, SPACE, World

ANCHORS = range(1, 9)


def lively_world(folder: Path) -> World:
    """A realm with a bit of everything."""
    made = World(folder)
    for number in ANCHORS:
        made.enrol(f"anchor-{number}", number, captures=2)
    made.enrol("erased", 20, captures=2)
    made.gallery.delete_subject("erased", OPERATOR)
    made.enrol("withdrawn", 21)
    made.gallery.withdraw_consents("withdrawn", OPERATOR)
    made.enrol("held", 22)
    made.gallery.set_hold("held", held=True, actor=OPERATOR)
    made.enrol("visitor", 23, partition="scratch")
    decide(made.gallery, "anchor-1", Counted.FAILURE)
    return made


def decide(gallery: Gallery, subject_id: str, counted: Counted = Counted.SUCCESS) -> None:
    """Audit one verification, as the service does for each."""
    outcome = "accept" if counted is Counted.SUCCESS else "reject"
    gallery.record_decision(
        DecisionRecord(OPERATOR, "door-1", "verify", outcome, "match", subject_id, SPACE, counted=counted)
    )


def moved_to(place: str, world: World, progress=None) -> MoveReport:
    """As the command does it."""
    return move(world.url, place, "hq", progress)


def everything(url: str) -> dict[str, set[tuple]]:
    """All rows that a move takes along, by table, without the realm's number.

    Nor when an erasure was completed: the old place still does that for its own files after the move.
    """
    store = SqlStore(url)
    with store.reading() as connection:
        found = {
            table.name: {
                tuple(value for column, value in row._mapping.items() if column not in ("realm_id", "completed_at_us"))
                for row in connection.execute(table.select())
            }
            for table in (*OF_SUBJECT, *GROWING, *WHOLE)
        }
    store.close()
    return found
