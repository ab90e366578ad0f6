"""Tests: unit/duetface."""
