"""Puts measured numbers into the docs: `make docs`; a test holds that they are there.

A number is followed by a comment that names where it was measured:

    17.3 ms <!-- RESULT bench.json:verify.p50_ms -->
    71 %    <!-- RESULT evaluate.json:tpir_at_fpir_0/05 % -->

The key is dotted, "/" standing for a point inside a name, and a % behind it multiplies by 100.  The number keeps
the decimals that it has in the text.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
NUMBER = re.compile(
    r"(?P<number>\d[\d.,]*)(?P<unit>[^<>\d|]{0,12})<!-- RESULT (?P<file>\S+?):(?P<key>\S+)(?P<percent> %)? -->"
)


def filled(text: str, results: Path = RESULTS) -> str:
    """The text with every marked number as it was measured.  Raises KeyError for one that was not."""
    return NUMBER.sub(lambda match: _measured(match, results), text)


def _measured(match: re.Match[str], results: Path) -> str:
    value: Any = json.loads((results / match["file"]).read_text(encoding="utf-8"))
    for part in match["key"].split("."):
        name = part.replace("/", ".")
        value = value[int(name)] if isinstance(value, list) else value[name]
    number = float(value) * (100 if match["percent"] else 1)
    decimals = len(match["number"].partition(".")[2])
    written = f"{number:,.{decimals}f}"
    return match[0].replace(match["number"], written, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the named pages in place; a page that is not there or names what was not measured ends it with status 2."""
    for name in sys.argv[1:] if argv is None else argv:
        page = Path(name)
        try:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        except OSError as error:
            print(f"{error.filename}: {error.strerror}", file=sys.stderr)
            return 2
        except (KeyError, IndexError, ValueError) as error:
            print(f"{page}: a marked number is not among the results: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
