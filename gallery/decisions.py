"""One decision in the store: its audit row and its counters, in one transaction."""

from gallery import failures
from gallery.ledger import Entry, canonical
from gallery.realm import Writing
from gallery.records import DecisionRecord


def record(writing: Writing, decision: DecisionRecord) -> int:
    """Write the row and move the counters; returns the audit row's number."""
    details = {
        **decision.details,
        "decision_id": decision.decision_id,
        "device": decision.device,
        "fmr": decision.fmr,
        "liveness": decision.liveness,
        "partition": decision.partition,
        "space": decision.space_digest.hex(),
    }
    subject_id, device, counted = decision.subject_id, decision.device, decision.counted
    failures.count(writing.connection, writing.realm_id, subject_id, device, counted, writing.ledger.now_us)
    entry = Entry(
        decision.actor, decision.operation, subject_id, decision.outcome, decision.reason, 0, canonical(details)
    )
    return writing.ledger.record(entry)
