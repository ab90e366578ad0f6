"""The `duetface` command: parses, builds and calls. Nothing imports it."""
