"""DuetFace's shared core: what the edge agent and the recognition service must agree on."""

__version__ = "0.1.0"
