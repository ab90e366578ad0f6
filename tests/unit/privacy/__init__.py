"""Tests of the attack suite; they need torch."""
