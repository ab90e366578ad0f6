"""What things cost on this machine: measured through the code that serves, printed as JSON by `make bench`."""
