"""One file a schema; each says what it adds."""
