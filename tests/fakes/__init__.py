"""Small true implementations behind the real interfaces, for tests that must not need trained networks."""
