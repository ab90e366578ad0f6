"""What the console script writes when something is wrong: one line of ours, none of a library's."""

import socket
import subprocess
import sys
from pathlib import Path


def console_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`duetface ARGUMENTS...` in a process of its own, where libraries write to the real standard error."""
    line = [sys.executable, "-c", "from cli.main import run; run()", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_a_port_in_use_is_told_in_one_line(state: Path) -> None:
    """gRPC logs the failed bind itself, several times, and buries the line that helps."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = console_script("serve", "--state", state, "--listen", address)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert f"cannot listen on {address}" in ended.stderr
