"""Generated from protos/duetface/v1 by `make protos`; only codec, client SDK, stream and servicers touch it."""
