"""Tests: unit/networks."""
