"""Two processes on one run, as torchrun starts them, against one process with twice the batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.training import made_up_run
from training.distributed import workers
from training.student import Student, read_checkpoint

ROOT = Path(__file__).resolve().parents[3]

SCALE = "client.input_scale"  # measured, not learned
SAME_WAY = 0.95  # .98 here; other faces in the batches take the same network .87 of the way

SCRIPT = """
import sys
from pathlib import Path
from tests.unit.training import made_up_run
with made_up_run.pytest.MonkeyPatch.context() as patch:
    made_up_run.run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), patch)
"""


def start(data: Path, run: Path, batch: int, rank: int, world: int, port: int) -> subprocess.Popen[str]:
    """One process with the variables that torchrun sets."""
    environment = {
        **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(data), str(run), str(batch)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finished(processes: list[subprocess.Popen[str]]) -> None:
    """Wait for all; show what one said if it failed."""
    for process in processes:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said


def free_port() -> int:
    """Where the processes meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(600)
def test_two_processes_learn_what_one_learns(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are averaged, samples are dealt by rank: the weights must be those of one process with all faces.

    Without the relational term, which compares the faces of one process only.
    """
    port = free_port()
    both = [start(data_folder, tmp_path / "two", 2, rank, 2, port) for rank in (0, 1)]
    made_up_run.run(data_folder, tmp_path / "one", 4, monkeypatch)
    finished(both)
    one, two = (read_checkpoint(tmp_path / name / "final.pt", "r1") for name in ("one", "two"))
    assert one["state"]["faces"] == two["state"]["faces"] == 8
    torch.manual_seed(1)  # as fit begins
    begun = Student("r1", None).state_dict()
    moved = [
        torch.cat([(checkpoint["student"][name] - value).flatten() for name, value in begun.items() if name != SCALE])
        for checkpoint in (one, two)
    ]
    # Adam's first steps are signs: where a gradient is next to nothing, bf16's order of sums may turn one.
    assert torch.cosine_similarity(moved[0], moved[1], dim=0) > SAME_WAY
    assert not (tmp_path / "two" / "checkpoint.pt").exists()


def test_without_torchrun_there_is_one_worker() -> None:
    """No group is opened, nothing waits for anybody."""
    with workers({}) as here:
        assert (here.rank, here.world, here.first) == (0, 1, True)
        assert not torch.distributed.is_initialized()
