"""The attackers, frozen: what each knows, what it may spend, and when it has won.

An attack that reads more than its entry says is a mistake of the suite (docs/method.md 9 has the rules).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThreatModel:
    """One attacker.

    who: the party of the threat table in docs/privacy.md.  holds: its whole input.  spends: its budget.
    wins_by: the figure that is reported.  beats: the unprotected input on which it is first shown to succeed.
    """

    name: str
    who: str
    holds: str
    spends: str
    wins_by: str
    beats: str


THREATS = {
    threat.name: threat
    for threat in (
        ThreatModel(
            name="linear",
            who="a curious service, or whoever records its decrypted traffic",
            holds="one message, the split's manifest; the picture's three mean colours, known or guessed",
            spends="conjugate gradients on the public transform; ridge regression on other people's faces",
            wins_by="PSNR, SSIM against the victim's crop",
            beats="the published split at eightfold upsampling",
        ),
        ThreatModel(
            name="decoder",
            who="a curious or malicious service that enrolled many faces of its own",
            holds="one message, masks included; messages and crops of other people; all public model files",
            spends="residual decoders trained from scratch, grown until their figures stop rising, and averaged",
            wins_by="PSNR, SSIM, re-identification against another picture by a recogniser that took no part",
            beats="the unprotected picture, sent as a message",
        ),
        ThreatModel(
            name="template",
            who="the same, holding what the service must hold to decide",
            holds="the embedding that the service stores for that very message; pairs of other people",
            spends="the same decoders behind a projection, with the same faces, budgets and seed",
            wins_by="as the decoder; the difference of the two is the excess",
            beats="the unprotected picture, sent as a message",
        ),
        ThreatModel(
            name="rebuild",
            who="the same",
            holds="as the template's; the service's network",
            spends="linear algebra: the service's layer is undone",
            wins_by="share of messages whose codes are computed from their template; all of them: the excess is zero",
            beats="the layer of a split that is one linear layer; a network of several is refused",
        ),
        ThreatModel(
            name="masks",
            who="the same",
            holds="only the attention masks of the message",
            spends="the same decoder",
            wins_by="as the decoder, against the mean face",
            beats="a thumbnail of the picture in place of the masks",
        ),
        ThreatModel(
            name="linkage",
            who="whoever records messages and wants to know whom they show",
            holds="messages of other people with their crops, and any face recogniser",
            spends="a student distilled on messages (FaceLinkGen, arXiv 2602.02914)",
            wins_by="verification accuracy between two messages of the victims",
            beats="the unprotected picture, sent as a message",
        ),
        ThreatModel(
            name="templates",
            who="a thief of two realms' galleries, with or without their keys",
            holds="rotated templates; K people whose plain embedding is known (Procrustes)",
            spends="linear algebra",
            wins_by="D_sys across realms; cosine of inverted to true embeddings",
            beats="two galleries under one key",
        ),
        ThreatModel(
            name="hill-climbing",
            who="a malicious agent with a valid certificate, lock-out switched off",
            holds="the public API, which answers with decisions, not similarities; messages of other people",
            spends="10,000 queries a victim",
            wins_by="share of victims for whom it is accepted, against what the FMR predicts for as many guesses",
            beats="an API that answers with similarities",
        ),
    )
}
