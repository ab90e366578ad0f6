"""Tests of DuetFace."""
