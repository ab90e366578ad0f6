"""The service's side: round trips and faces a second, against a real process on loopback with mutual TLS."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import Timer, percentiles
from duetface.authority import Authority
from duetface.client import Client, Consent
from duetface.identity import ClientIdentity, Role
from duetface.types import Probe
from edge_agent.stream import Decided, DecisionStream

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 30.0


@contextmanager
def service_process(state: Path) -> Iterator[str]:
    """A service of its own, so that its interpreter does not wait for the clients'; gives HOST:PORT."""
    command = [sys.executable, "-m", "benchmarks.serve", str(state)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()
            process.communicate(timeout=WAIT_S)


def _address(process: subprocess.Popen[str]) -> str:
    lines = []
    for line in process.stderr or ():
        lines.append(line)
        if line.startswith("{") and json.loads(line).get("event") == "serving":
            return str(json.loads(line)["address"])
    raise SystemExit("the service did not start:\n" + "".join(lines[-5:]))


@dataclass(frozen=True)
class Load:
    """How much is asked.  calls: of each kind of call.  streams: at once.  seconds: of the stream measurement."""

    calls: int
    streams: int
    seconds: float


def measure_service(state: Path, probes: Sequence[Probe], load: Load) -> dict[str, Any]:
    """Enrol the first probe, then verify and identify it, then stream all of them."""
    operator = ClientIdentity.load(state / "clients" / "operator")
    with service_process(state) as address, Client.connect(address, operator) as client:
        client.create_subject("enrolled", "", Consent("benchmark", "1", datetime.now(UTC)))
        client.add_template("enrolled", fresh(probes[0]))
        for _ in range(10):  # warm-up
            client.verify("enrolled", fresh(probes[0]))
        return {
            # Each with its challenge before it: two calls, as a client makes them.
            "verify_round_trip_ms": _timed(lambda: client.verify("enrolled", fresh(probes[0])), load.calls),
            "identify_round_trip_ms": _timed(lambda: client.identify(fresh(probes[0])), load.calls),
            "streams": {str(count): _streams(state, address, probes, count, load) for count in (1, load.streams)},
        }


def fresh(probe: Probe) -> Probe:
    """The same face, captured now."""
    return replace(probe, captured_at_monotonic_ns=time.monotonic_ns())


def _timed(call: Any, times: int) -> dict[str, float | int]:
    timer = Timer()
    for _ in range(times):
        with timer:
            call()
    return percentiles(timer.values_ms)


def _streams(state: Path, address: str, probes: Sequence[Probe], count: int, load: Load) -> dict[str, Any]:
    """`count` devices that each send the next face when the one before is decided."""
    devices = [_Device(_identity(state, number), address, probes) for number in range(count)]
    started = time.monotonic()
    for device in devices:
        device.start(until=started + load.seconds)
    for device in devices:
        device.join()
    seconds = time.monotonic() - started
    round_trips = [value for device in devices for value in device.round_trips_ms]
    return {
        "faces_per_s": round(len(round_trips) / seconds, 1),
        "decision_ms": percentiles(round_trips),
        "seconds": round(seconds, 1),
    }


def _identity(state: Path, number: int) -> ClientIdentity:
    folder = state / "clients" / f"device-{number}"
    if not folder.exists():
        Authority.load(state / "ca").issue_client([Role.AGENT], folder.name, folder, datetime.now(UTC))
    return ClientIdentity.load(folder)


class _Device(threading.Thread):
    """One stream.  round_trips_ms: from signing to the decision."""

    def __init__(self, identity: ClientIdentity, address: str, probes: Sequence[Probe]) -> None:
        super().__init__(daemon=True)
        self.round_trips_ms: list[float] = []
        self._probes = probes
        self._stream = DecisionStream(address, identity, tuple(face.split_digest for face in probes[0].faces))
        self._until_s = 0.0

    def start(self, until: float = 0.0) -> None:
        """until: monotonic seconds."""
        self._until_s = until
        super().start()

    def run(self) -> None:
        self._stream.start()
        try:
            self._stream.submit(fresh(self._probes[0]), 0)
            while time.monotonic() < self._until_s:
                event = self._stream.next_event(timeout_s=1.0)
                if isinstance(event, Decided):
                    self.round_trips_ms.append(event.round_trip_ms)
                    tag = event.tag + 1
                    self._stream.submit(fresh(self._probes[tag % len(self._probes)]), tag)
        finally:
            self._stream.close()
