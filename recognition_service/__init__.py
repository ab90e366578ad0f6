"""The recognition service: from a signed probe to a decision, over mutual TLS.

`pipeline.recognise` is the way of a face on this side; `server.serve` runs everything.
"""
