"""The service as `duetface serve` runs it, without the rate limit of a single certificate: for benchmarks only."""

import asyncio
import logging
import sys
from pathlib import Path

from recognition_service.config import load_config
from recognition_service.server import serve

OVERRIDES: dict[str, dict[str, object]] = {
    "listen": {"address": "127.0.0.1:0"},
    "load": {"rate_per_s": 100_000.0, "burst": 100_000},
}

if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    asyncio.run(serve(load_config(Path(sys.argv[1]), OVERRIDES)))
