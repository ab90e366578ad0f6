"""The demonstration: the whole way of a face on public-domain portraits."""
