"""The template spaces that a service decides in: the present one, and while a gallery moves, the one it moves to.

A decision is taken in one space wherever one subject is claimed: two looks, of which either may accept, would double
the false match rate that the decision states.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from duetface.spec import SplitSpec
from recognition_service.batcher import Batcher
from recognition_service.decision import OperatingPoint


@dataclass(frozen=True, eq=False)
class ServedSpace:
    """A template space with the network that makes its embeddings.

    digest: 32 bytes.  split: whose faces the network reads.  point: this network's threshold at the realm's FMR.
    """

    digest: bytes
    split: SplitSpec
    point: OperatingPoint
    batcher: Batcher


@dataclass(frozen=True)
class Spaces:
    """What is served.

    upcoming: the space that the gallery moves to, None while it does not move.
    captures: templates of a subject that are enough to decide in the upcoming space.
    """

    current: ServedSpace
    upcoming: ServedSpace | None = None
    captures: int = 1

    @property
    def all(self) -> tuple[ServedSpace, ...]:
        """The current one first."""
        return (self.current,) if self.upcoming is None else (self.current, self.upcoming)

    @property
    def splits(self) -> dict[bytes, SplitSpec]:
        """Those whose faces are read, by digest; the current space's first."""
        return {space.split.digest: space.split for space in self.all}

    def of(self, split_digests: Iterable[bytes]) -> tuple[ServedSpace, ...]:
        """The spaces that faces of these splits can be embedded in."""
        given = frozenset(split_digests)
        return tuple(space for space in self.all if space.split.digest in given)

    def of_claim(self, split_digests: Iterable[bytes], templates: Mapping[bytes, int]) -> ServedSpace:
        """The one space in which a claim is decided.

        split_digests: of the capture's faces, at least one of them served.  templates: the claimed subject's, by space.
        The upcoming space decides once it holds as many templates of the subject as the current one, or `captures`:
        fewer would refuse people whom the current one knows.
        """
        able = self.of(split_digests)
        if len(able) == 1:
            return able[0]
        current, upcoming = (templates.get(space.digest, 0) for space in able)
        return able[1] if upcoming and upcoming >= min(self.captures, current or 1) else able[0]
