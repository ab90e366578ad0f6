import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    """Whatever the instant: every acknowledged change is there, none is half there, index, feed and audit agree.

    Six kills here; `make chaos` does two hundred.
    """
    command = [sys.executable, "-m", "tests.unit.gallery.crash_driver", str(tmp_path), "--kills", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == 6
    assert report["acknowledged_changes"] > 0
    assert (report["lost"], report["half_there"], report["index_differs"]) == (0, 0, 0)
