"""The gRPC side: the guard before every call, the servicers, and the checks of their requests."""
