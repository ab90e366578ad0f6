"""A client made from protos/ and docs/protocol.md alone, and the test that runs it."""
