"""Tests: unit/training."""
