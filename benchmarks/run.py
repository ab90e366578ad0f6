"""`make bench`: bytes a face, milliseconds by stage, round trips, faces a second, as JSON on standard output.

python -m benchmarks.run [--faces DIR] [--repeats 20] [--calls 200] [--streams 8] [--seconds 10]
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.device import measure_device
from benchmarks.machine import describe_machine
from benchmarks.service import Load, measure_service
from duetface import __version__
from duetface.identity import ClientIdentity
from duetface.manifest import ModelCatalogue, models_root
from recognition_service.state import create_state

PORTRAITS = Path(__file__).resolve().parent.parent / ".cache" / "portraits"
PICTURES = {".jpg", ".jpeg", ".png"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 if everything was measured."""
    arguments = _parser().parse_args(argv)
    pictures = sorted(path for path in arguments.faces.rglob("*") if path.suffix.lower() in PICTURES)
    if not pictures:
        raise SystemExit(f"{arguments.faces} holds no pictures: run `make portraits`, or name another with --faces")
    catalogue = ModelCatalogue(models_root())
    split, space = catalogue.default_split(), catalogue.default_space()
    with tempfile.TemporaryDirectory(prefix="duetface-bench-") as folder:
        state = Path(folder) / "state"
        create_state(state, "bench.example", datetime.now(UTC))
        identity = ClientIdentity.load(state / "clients" / "operator")
        machine = describe_machine()
        device = measure_device(pictures, split.name, identity, arguments.repeats)
        load = Load(arguments.calls, arguments.streams, arguments.seconds)
        service = measure_service(state, list(device.probes.values()), load)
    report = {
        "duetface": __version__,
        "split": split.name,
        "space": space.name,
        "server_threads": 1,
        "machine": machine,
        "device": device.report,
        "service": service,
    }
    print(json.dumps(report, indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=PORTRAITS, help="folder of pictures, searched with subfolders")
    parser.add_argument("--repeats", type=int, default=20, help="times that each picture is protected")
    parser.add_argument("--calls", type=int, default=200, help="verifications and identifications")
    parser.add_argument("--streams", type=int, default=8, help="devices that stream at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stream measurement")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
