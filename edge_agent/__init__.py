"""The device's half of DuetFace: from a camera to a signed probe, and no further.

What a person could recognise stays here; `edge_agent.Protector` is the entry point.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.pipeline import Protector

__all__ = ["Protector"]


def __getattr__(name: str) -> object:
    """Load the pipeline when it is asked for: most of this package is needed without OpenCV and the networks."""
    if name == "Protector":
        from edge_agent.pipeline import Protector

        return Protector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
