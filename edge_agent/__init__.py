"""The device's half of DuetFace: from a camera to a signed probe, and no further.

What a person could recognise stays here; `pipeline.Protector` is the entry point.
"""
