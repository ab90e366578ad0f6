"""AuditService: what was decided, changed and refused, for auditors."""

import asyncio

from duetface.v1 import audit_pb2, audit_pb2_grpc
from gallery.gallery import Gallery
from gallery.ledger import canonical
from gallery.records import AuditRecord
from recognition_service.rpc.context import Context
from recognition_service.rpc.fields import number_of, page_size_of


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Reads the audit chain; the guard lets auditors through only."""

    def __init__(self, gallery: Gallery) -> None:
        """gallery: whose audit is read."""
        self._gallery = gallery

    async def ListAuditRecords(
        self, request: audit_pb2.ListAuditRecordsRequest, context: Context
    ) -> audit_pb2.ListAuditRecordsResponse:
        """One page of records, by id."""
        size = page_size_of(request.page_size)
        newest = request.newest and request.after_id == 0
        records = await asyncio.to_thread(self._records, number_of("after_id", request.after_id), size, newest)
        return audit_pb2.ListAuditRecordsResponse(records=[_record_message(record) for record in records])

    def _records(self, after_id: int, size: int, newest: bool) -> list[AuditRecord]:
        if newest:
            after_id = max(0, self._gallery.last_audit_id - size)
        return self._gallery.audit(after_id, size)


def _record_message(record: AuditRecord) -> audit_pb2.AuditRecord:
    message = audit_pb2.AuditRecord(
        id=record.audit_id,
        event=record.action,
        actor=f"{record.actor.role}/{record.actor.name}",
        subject_id=record.subject_id,
        outcome=record.outcome,
        reason=record.reason,
        revision=record.revision,
        detail_json=canonical(record.details),
        chain_sha256=record.own_digest,
        actor_fingerprint=record.actor.fingerprint,
    )
    message.recorded_at.FromDatetime(record.at)
    return message
