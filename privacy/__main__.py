"""`python -m privacy`."""

import sys

from privacy.cli import main

if __name__ == "__main__":
    sys.exit(main())
