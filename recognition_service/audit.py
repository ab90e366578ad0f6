"""The audit: one row for each decision and each refusal of somebody who should not have tried.

Changes write their own rows inside the gallery's transactions; these are the rows of what changed nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from duetface.errors import AccessError, DuetFaceError, OverloadedError
from gallery.gallery import Gallery
from gallery.records import Actor, DecisionRecord
from recognition_service.access import Caller, unnamed_actor
from recognition_service.admission import Admission
from recognition_service.refusals import reason_name, refusal_of

logger = logging.getLogger(__name__)

# A refused flood must not become a flood of rows: enough for a person to see the attack, by one certificate.
REFUSALS_PER_S = 5.0
REFUSALS_BURST = 50


class AuditTrail:
    """Writes audit rows from coroutines; the SQL runs in a thread."""

    def __init__(self, gallery: Gallery, clock_s: Callable[[], float]) -> None:
        """clock_s: monotonic seconds."""
        self._gallery = gallery
        self._clock_s = clock_s
        self._rate = Admission(REFUSALS_PER_S, REFUSALS_BURST)

    async def decision(self, record: DecisionRecord) -> None:
        """Write a decision's row and its counters in one transaction, before anybody is told.

        Raises GalleryError if it cannot be written: a decision that is not audited is not given.
        """
        await asyncio.to_thread(self._gallery.record_decision, record)

    async def refusal(self, method: str, certificates_pem: Sequence[bytes], error: DuetFaceError) -> None:
        """Write a refusal's row; what comes too fast from one certificate is only logged."""
        actor = _actor(certificates_pem)
        try:
            self._rate.admit(actor.fingerprint, self._clock_s())
            reason = reason_name(error).removeprefix("ERROR_REASON_").lower()
            details = {"method": method, "status": refusal_of(error).status.name}
            await asyncio.to_thread(self._gallery.record_event, "refusal", actor, reason, "refused", details)
        except OverloadedError:
            logger.warning("refusal not audited", extra={"method": method, "cause": "rate", "actor": actor.fingerprint})
        except DuetFaceError as failure:
            # The caller is refused all the same; the operator has to learn why there is no row.
            logger.error("refusal not audited", extra={"method": method, "cause": str(failure)})


def _actor(certificates_pem: Sequence[bytes]) -> Actor:
    certificate_pem = b"".join(certificates_pem)
    try:
        return Caller.from_pem(certificate_pem).actor
    except AccessError:
        return unnamed_actor(certificate_pem)
