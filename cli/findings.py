"""What a doctor found: one line for each thing that was looked at."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from cli import output
from cli.exits import ExitCode, one_line
from duetface.errors import ConfigError, DuetFaceError

CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    detail: what was seen, or what is wrong and what to do.  remote: it lies with a service or device, not here.
    """

    name: str
    ok: bool
    detail: str
    remote: bool = False


@dataclass
class Findings:
    """All of them, in order."""

    found: list[Finding] = field(default_factory=list)

    def look(self, name: str, check: Callable[[], str], *, remote: bool = False) -> bool:
        """Run one check, which says what it saw or raises what is wrong; returns whether all is well."""
        try:
            self.found.append(Finding(name, True, check(), remote))
        except DuetFaceError as error:
            self.found.append(Finding(name, False, one_line(error), remote))
        return self.found[-1].ok

    @property
    def verdict(self) -> ExitCode:
        """0 when all is well, 2 when something here is at fault, 4 when only a service or device is."""
        faults = [finding for finding in self.found if not finding.ok]
        if not faults:
            return ExitCode.DONE
        return ExitCode.REFUSED if all(fault.remote for fault in faults) else ExitCode.MISUSE


def tell(findings: Findings, as_json: bool) -> ExitCode:
    """Print the findings; returns the exit code that goes with them."""
    if as_json:
        output.result_json([asdict(finding) for finding in findings.found])
    else:
        for finding in findings.found:
            output.result(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name:12} {finding.detail}")
    return findings.verdict


def clock_finding(offset_s: float) -> str:
    """Say how far the service's clock is from ours.  Raises ConfigError when it is too far."""
    if abs(offset_s) > CLOCK_TOLERANCE_S:
        raise ConfigError(f"the service's clock differs by {offset_s:+.1f} s: set both by NTP")
    return f"{offset_s:+.2f} s between here and the service"
