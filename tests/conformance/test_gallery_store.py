"""What a caller of the gallery may rely on, on every kind of database."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from duetface.errors import (
    ConsentError,
    ContractError,
    ExistsError,
    MessageError,
    NotFoundError,
    TemplateLimitError,
)
from tests.unit.gallery.world import NOON, OPERATOR, OPTIONS, OTHER_SPACE, SPACE, World, consent, person


def test_an_enrolled_person_is_found_by_another_capture(world):
    """The main job: 1:N finds the subject and 1:1 gives the cosine of the two captures, rotation or not."""
    world.enrol("alice", 1)
    world.enrol("bob", 2)
    probe = person(1, capture=9)
    cosine = float(probe @ person(1, 0))
    assert world.gallery.identify(probe, SPACE, k=1)[0].subject_id == "alice"
    assert world.gallery.identify(probe, SPACE, k=1)[0].cosine_similarity == pytest.approx(cosine, abs=1e-5)
    assert world.gallery.verify_similarity("alice", probe, SPACE) == pytest.approx(cosine, abs=1e-6)


def test_subjects_are_ranked_and_not_their_templates(world):
    """A subject with many templates must not crowd the others out of the k best."""
    world.enrol("many", 1, captures=20)
    world.enrol("second", 2)
    world.enrol("third", 3)
    found = [match.subject_id for match in world.gallery.identify(person(1, 50), SPACE, k=3)]
    assert found[0] == "many"
    assert sorted(found) == ["many", "second", "third"]


def test_the_best_of_several_templates_counts(world):
    """Several templates a subject exist to catch the one that is like the probe."""
    world.enrol("alice", 1, captures=10)
    probe = person(1, capture=7)
    assert world.gallery.verify_similarity("alice", probe, SPACE) == pytest.approx(1, abs=1e-6)
    assert world.gallery.identify(probe, SPACE)[0].cosine_similarity == pytest.approx(1, abs=1e-5)


def test_an_unknown_subject_and_an_empty_gallery_compare_to_nothing(world):
    """The caller answers as for a rejection; nobody learns who is enrolled."""
    assert world.gallery.verify_similarity("nobody", person(1), SPACE) is None
    assert world.gallery.identify(person(1), SPACE, k=5) == []


def test_templates_of_another_space_are_never_compared(world):
    """Embeddings of two networks have no common meaning, whatever their cosine."""
    world.enrol("alice", 1)
    assert world.gallery.verify_similarity("alice", person(1), OTHER_SPACE) is None
    assert world.gallery.identify(person(1), OTHER_SPACE) == []


def test_a_space_that_the_service_does_not_serve_is_refused(tmp_path):
    """A template of a space without network could never be compared again."""
    world = World(tmp_path, options=replace(OPTIONS, spaces=frozenset({SPACE})))
    world.enrol("alice", 1)
    with pytest.raises(ContractError, match="template space"):
        world.gallery.add_template("alice", OTHER_SPACE, person(1), 0.5, "d", OPERATOR)
    world.gallery.close()


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.full(128, np.nan, np.float32), "not finite"),
        (np.zeros(128, np.float32), "unit length"),
        (np.full(128, 0.1, np.float32), "unit length"),
        (person(1, dimension=64), r"shape \(1, 64\)"),
        (person(1).astype(np.float64), "float64"),
        (person(1)[None], "shape"),
    ],
)
def test_a_malformed_embedding_is_refused_everywhere(world, embedding, message):
    """Checked where it enters, so that no index ever holds a vector without direction; the next request works."""
    world.enrol("alice", 1)
    with pytest.raises(MessageError, match=message):
        world.gallery.add_template("alice", SPACE, embedding, 0.5, "d", OPERATOR)
    with pytest.raises(MessageError, match=message):
        world.gallery.verify_similarity("alice", embedding, SPACE)
    with pytest.raises(MessageError, match=message):
        world.gallery.identify(embedding, SPACE)
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"


def test_a_digest_of_another_length_is_refused(world):
    """A cut digest could name two spaces."""
    with pytest.raises(MessageError, match="31 bytes"):
        world.gallery.identify(person(1), SPACE[:31])


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_a_quality_out_of_range_is_refused(world, quality):
    """Quality is compared later; NaN would compare false with everything."""
    world.enrol("alice", 1)
    with pytest.raises(MessageError, match="quality"):
        world.gallery.add_template("alice", SPACE, person(1), quality, "d", OPERATOR)


def test_a_subject_is_created_once(world):
    """Two people under one id would both be accepted as it."""
    world.enrol("alice", 1)
    with pytest.raises(ExistsError, match="enrolled already"):
        world.enrol("alice", 2)
    assert world.gallery.size == 1


@pytest.mark.parametrize("subject_id", ["", "a\nb", "a\x00", " a", "a ", "x" * 129, "\ud800"])
def test_a_malformed_subject_id_is_refused(world, subject_id):
    """Ids reach logs and terminals: no control characters, nothing invisible at an end."""
    with pytest.raises(MessageError, match="subject id"):
        world.gallery.create_subject(subject_id, "", consent(world.clock), OPERATOR)


def test_two_spellings_of_one_id_are_one_subject(world):
    """é typed as one or as two code points looks the same to the operator."""
    world.enrol("ren\u00e9", 1)
    assert world.gallery.subject("rene\u0301").subject_id == "ren\u00e9"
    with pytest.raises(ExistsError):
        world.enrol("rene\u0301", 2)


def test_an_unknown_subject_is_said_to_the_operator(world):
    """Operators' calls name the mistake; verification does not (see above)."""
    for call in (
        lambda: world.gallery.subject("nobody"),
        lambda: world.gallery.list_templates("nobody"),
        lambda: world.gallery.delete_subject("nobody", OPERATOR),
        lambda: world.gallery.add_template("nobody", SPACE, person(1), 0.5, "d", OPERATOR),
    ):
        with pytest.raises(NotFoundError, match="no such subject"):
            call()
    with pytest.raises(NotFoundError, match="no template 77"):
        world.gallery.delete_template(77, OPERATOR)


def test_templates_of_a_subject_are_limited(tmp_path):
    """Ten thousand templates of one person would raise its false matches ten-thousandfold."""
    world = World(tmp_path, options=replace(OPTIONS, templates_per_subject=3))
    world.enrol("alice", 1, captures=3)
    with pytest.raises(TemplateLimitError, match="3 templates"):
        world.add("alice", 1, 3)
    assert len(world.gallery.list_templates("alice")) == 3
    world.gallery.close()


def test_what_is_stored_is_told_to_the_operator(world):
    """The page that an operator sees of a person: label, consent, templates, times; never an embedding."""
    added = world.enrol("alice", 1, captures=2)
    record = world.gallery.subject("alice")
    assert (record.label, record.template_count, record.created_at) == ("label of alice", 2, NOON)
    assert record.consents[0].consent == consent(world.clock)
    listed = world.gallery.list_templates("alice")
    assert [template.template_id for template in listed] == [template.template_id for template in added]
    assert (listed[0].device, listed[0].quality, listed[0].space_digest) == ("door-1", 0.5, SPACE)


def test_subjects_are_listed_in_pages(world):
    """A page token is the last id of the page before: stable while others enrol."""
    for name in ("d", "b", "a", "c"):
        world.gallery.create_subject(name, "", consent(world.clock), OPERATOR)
    assert [record.subject_id for record in world.gallery.list_subjects(limit=3)] == ["a", "b", "c"]
    assert [record.subject_id for record in world.gallery.list_subjects(after="c", limit=3)] == ["d"]


def test_a_deleted_subject_is_gone_at_once(world):
    """Deleted is never returned: not by search, not by comparison, not by lists, not after a restart."""
    world.enrol("alice", 1, captures=3)
    world.enrol("bob", 2)
    world.gallery.delete_subject("alice", OPERATOR)
    for _ in range(2):
        assert [match.subject_id for match in world.gallery.identify(person(1), SPACE, k=9)] == ["bob"]
        assert world.gallery.verify_similarity("alice", person(1), SPACE) is None
        assert world.gallery.size == 1
        world.reopen()


def test_a_deleted_template_no_longer_answers(world):
    """One bad capture can be taken out without losing the person."""
    first, second = world.enrol("alice", 1, captures=2)
    world.gallery.delete_template(first.template_id, OPERATOR)
    assert [template.template_id for template in world.gallery.list_templates("alice")] == [second.template_id]
    expected = float(person(1, 0) @ person(1, 1))
    assert world.gallery.identify(person(1, 0), SPACE)[0].cosine_similarity == pytest.approx(expected, abs=1e-5)


def test_an_id_can_be_used_again_after_deletion(world):
    """The new person under an old id has nothing of the old one."""
    world.enrol("alice", 1)
    world.gallery.delete_subject("alice", OPERATOR)
    world.enrol("alice", 2)
    assert world.gallery.verify_similarity("alice", person(1), SPACE) < 0.3
    assert world.gallery.verify_similarity("alice", person(2), SPACE) > 0.99


def test_a_scratch_partition_is_searched_apart_and_dropped_whole(world):
    """`evaluate` must neither find nor disturb the people who are really enrolled."""
    world.enrol("alice", 1)
    world.enrol("alice", 2, partition="evaluation")
    world.enrol("zoe", 3, partition="evaluation")
    assert world.gallery.verify_similarity("alice", person(2), SPACE) < 0.3
    assert world.gallery.identify(person(3), SPACE, partition="evaluation")[0].subject_id == "zoe"
    assert [match.subject_id for match in world.gallery.identify(person(3), SPACE, k=9)] == ["alice"]
    world.gallery.drop_partition("evaluation", OPERATOR)
    assert world.gallery.list_subjects(partition="evaluation") == []
    assert world.gallery.identify(person(3), SPACE, partition="evaluation") == []
    assert world.gallery.identify(person(1), SPACE)[0].subject_id == "alice"
    world.enrol("zoe", 3, partition="evaluation")
    assert world.gallery.identify(person(3), SPACE, partition="evaluation")[0].subject_id == "zoe"


def test_the_real_partition_cannot_be_dropped(world):
    """A forgotten argument must not delete everybody."""
    with pytest.raises(MessageError, match="main partition"):
        world.gallery.drop_partition("", OPERATOR)


def test_a_consent_must_be_valid_when_it_is_recorded(world):
    """Neither a consent that ended nor one that begins later is a consent now; each refusal has its own remedy."""
    given = consent(world.clock, days=1)
    for days, refusal in ((2, "not valid now: its end"), (-1, "given in the future: set this machine's clock")):
        world.clock.move(days=days)
        with pytest.raises(ConsentError, match=refusal):
            world.gallery.create_subject("alice", "", given, OPERATOR)
        world.clock.now = NOON


def test_a_consent_of_a_clock_that_is_a_little_ahead_is_given_now(world):
    """Devices' clocks are set over the network, to within seconds; nobody should have to wait for them to agree."""
    given = replace(consent(world.clock), given_at=NOON + timedelta(minutes=5))
    world.gallery.create_subject("alice", "", given, OPERATOR)
    assert world.gallery.subject("alice").consents[0].consent.given_at == NOON
    assert world.add("alice", 1, 0)
    later = replace(given, given_at=NOON + timedelta(minutes=5, microseconds=1))
    with pytest.raises(ConsentError, match="in the future"):
        world.gallery.record_consent("alice", later, OPERATOR)


def test_templates_stop_answering_when_consent_ends(world):
    """Purging is a job that may run late; the answer must not wait for it."""
    world.gallery.create_subject("alice", "", consent(world.clock, days=1), OPERATOR)
    world.add("alice", 1, 0)
    assert world.gallery.identify(person(1), SPACE)
    world.clock.move(days=1)
    assert world.gallery.identify(person(1), SPACE) == []
    assert world.gallery.verify_similarity("alice", person(1), SPACE) is None
    with pytest.raises(ConsentError, match=r"no consent.*duetface consent add SUBJECT"):
        world.add("alice", 1, 1)
    world.gallery.record_consent("alice", consent(world.clock), OPERATOR)
    world.add("alice", 1, 1)
    assert len(world.gallery.identify(person(1), SPACE)) == 1


def test_a_withdrawn_consent_silences_the_templates_at_once(world):
    """Withdrawal is a right that takes effect now, in every index."""
    world.enrol("alice", 1)
    world.gallery.withdraw_consents("alice", OPERATOR)
    world.clock.move(microseconds=1)
    assert world.gallery.identify(person(1), SPACE) == []
    assert world.gallery.verify_similarity("alice", person(1), SPACE) is None
    assert world.gallery.subject("alice").consents[0].withdrawn_at == NOON
    with pytest.raises(ConsentError, match="nothing to withdraw"):
        world.gallery.withdraw_consents("alice", OPERATOR)


def test_a_legal_hold_forbids_erasure_until_it_is_lifted(world):
    """Evidence that a court asked for must not vanish by routine."""
    added = world.enrol("alice", 1)
    world.gallery.set_hold("alice", held=True, actor=OPERATOR)
    assert world.gallery.subject("alice").held_at == NOON
    with pytest.raises(ConsentError, match="legal hold"):
        world.gallery.delete_subject("alice", OPERATOR)
    with pytest.raises(ConsentError, match="legal hold"):
        world.gallery.delete_template(added[0].template_id, OPERATOR)
    world.gallery.set_hold("alice", held=False, actor=OPERATOR)
    world.gallery.delete_subject("alice", OPERATOR)
