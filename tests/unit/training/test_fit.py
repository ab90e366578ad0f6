"""The loop on a tiny set: it learns, resumes, and leaves a record."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from duetface.errors import ConfigError, ModelError
from networks import registry
from networks.mobile_face_net import MobileFaceNet
from networks.registry import Form
from training import objective
from training.batches import Batch, Samples, collate
from training.compiled import compiled
from training.config import FitConfig
from training.datasets import Faces
from training.distributed import Workers
from training.fit import fit, training_step, update_average
from training.losses import TeacherBank, distillation
from training.objective import Objective
from training.progress import Progress
from training.published import Start
from training.schedule import rate_factor
from training.student import Student, load_student, read_weights

ALONE = Workers(0, 1, torch.device("cpu"))
CONFIG = FitConfig(split="r1", minutes=5, faces=24, batch=4, threads=1)


@pytest.fixture(autouse=True)
def no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's file is not shipped: start from seeded random weights instead."""
    build = registry.build
    monkeypatch.setattr(registry, "build", lambda spec, _teacher, form=None: build(spec, None, form))


def started(faces: Faces, run: Path, config: FitConfig = CONFIG) -> Progress:
    """A run over all faces of the tiny set."""
    torch.manual_seed(0)
    student = Student(config.split, None, Form(interaction=config.interaction), config.masks)
    return Progress.of(config, student, Objective(config, faces, np.arange(len(faces.identity)), run), run)


def four(faces: Faces) -> Batch:
    """The same four faces, unchanged."""
    samples = Samples(faces, np.arange(4), seed=1, augmented=False, occluded_weight=1.0)
    return collate([samples[i] for i in range(4)])


def step(progress: Progress, batch: Batch) -> tuple[float, float]:
    """One update in the middle of a run."""
    return training_step(progress, progress.student, batch, 1e-3, 0.5, ALONE)


def test_the_loop_overfits_one_batch(faces: Faces, tmp_path: Path) -> None:
    """If it cannot learn four faces by heart, something is not connected."""
    progress, batch = started(faces, tmp_path), four(faces)
    cosines = [step(progress, batch)[1] for _ in range(18)]
    assert cosines[0] < 0.2
    assert cosines[-1] > 0.6


@pytest.mark.parametrize(
    "change", [{"interaction": "gated"}, {"masks": "random"}, {"region": False}, {"head": "adaface"}]
)
def test_each_ablation_trains(change: dict[str, object], faces: Faces, tmp_path: Path) -> None:
    """Every key that the table varies reaches the networks; all that learns gets a finite gradient."""
    progress = started(faces, tmp_path, replace(CONFIG, **change))  # type: ignore[arg-type]
    step(progress, four(faces))
    gradients = [parameter.grad for parameter in progress.parameters if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    # Random masks leave the client without a say: nothing else may stay behind.
    silent = len(progress.parameters) - len(gradients)
    assert silent == (len(list(progress.student.client.parameters())) if "masks" in change else 0)


def test_a_run_continues_only_with_its_own_networks(faces: Faces, tmp_path: Path) -> None:
    """Another form of the block, or a head that was not there, must not start from what does not fit."""
    started(faces, tmp_path).save(tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="of a run with other networks: choose another --run folder"):
        started(faces, tmp_path, replace(CONFIG, interaction="gated"))
    with pytest.raises(ModelError, match="of a run with other networks"):
        started(faces, tmp_path, replace(CONFIG, head="arcface"))
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="holds no weights of a run"):
        started(faces, tmp_path)


def test_a_run_with_hints_continues_after_they_have_ended(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher that gives them is no part of a run: its weights are not saved, and not asked for again."""
    monkeypatch.setattr(objective, "load_teacher", lambda _path: MobileFaceNet())
    learned = replace(CONFIG, split="l1", hint_weight=1.0)
    progress = started(faces, tmp_path, learned)
    step(progress, four(faces))
    progress.save(tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["head"] == {}
    again = started(faces, tmp_path, replace(learned, hint_weight=0.0))
    assert all(torch.equal(value, progress.average[name]) for name, value in again.average.items())


def test_a_checkpoint_tells_how_to_build_its_networks(faces: Faces, tmp_path: Path) -> None:
    """Whoever evaluates a run need not know its settings."""
    started(faces, tmp_path, replace(CONFIG, interaction="gated")).save(tmp_path / "final.pt")
    assert load_student(tmp_path / "final.pt").form == Form(interaction="gated")


def test_an_interrupted_run_continues_and_ends_with_a_record(faces: Faces, tmp_path: Path) -> None:
    """Training shares machines: it must survive being stopped."""
    teacher = tmp_path / "unused"
    fit(replace(CONFIG, faces=12, checkpoint_minutes=0), faces, teacher, tmp_path)
    assert json.loads((tmp_path / "record.json").read_text())["faces"] == 12
    fit(CONFIG, faces, teacher, tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["faces"] == 24
    assert record["config"]["seed"] == CONFIG.seed and record["data_sha256"] == faces.digest and record["commit"]
    assert (tmp_path / "curves.csv").read_text().startswith("faces,seconds,progress,rate,loss,cosine")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    student = Student("r1", None)
    student.load_state_dict(read_weights(tmp_path / "final.pt", "r1"))


def test_a_run_says_what_it_began_with(faces: Faces, tmp_path: Path) -> None:
    """Weights that were trained twice must not pass for weights that were trained once."""
    given = {name: torch.full_like(value, 0.01) for name, value in Student("r1", None).state_dict().items()}
    fit(replace(CONFIG, faces=4, learning_rate=1e-12), faces, tmp_path, tmp_path / "run", Start("runs/first", given))
    assert json.loads((tmp_path / "run" / "record.json").read_text())["start"] == "runs/first"
    trained = read_weights(tmp_path / "run" / "final.pt", "r1")
    assert torch.allclose(trained["server.trunk.stem.0.weight"], torch.tensor(0.01), atol=1e-6)


def test_a_checkpoint_of_another_split_is_refused(faces: Faces, tmp_path: Path) -> None:
    """Its layers would fit; its channels would not."""
    fit(replace(CONFIG, faces=4), faces, tmp_path / "unused", tmp_path)
    with pytest.raises(ModelError, match="trained for another split than r2"):
        read_weights(tmp_path / "final.pt", "r2")


def test_a_loss_that_is_not_finite_stops_the_run(faces: Faces, tmp_path: Path) -> None:
    """Training on would fill the checkpoint with NaN."""
    progress, batch = started(faces, tmp_path), four(faces)
    batch.rgb[0] = float("inf")
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        step(progress, batch)


@pytest.mark.filterwarnings("ignore")  # torch warns about its own code when it first compiles
def test_a_compiled_step_is_the_plain_one(faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quicker kernels for the activations, and a line where there is no compiler for them."""
    batch, plain, quick = four(faces), started(faces, tmp_path), started(faces, tmp_path)
    loss = step(plain, batch)[0]
    forward = compiled(quick.student, torch.device("cpu"))
    assert ("a third slower" in capsys.readouterr().err) == (shutil.which("g++") is None)
    assert training_step(quick, forward, batch, 1e-3, 0.5, ALONE)[0] == pytest.approx(loss, rel=0.02)
    for name, parameter in plain.student.named_parameters():
        again = quick.student.get_parameter(name).grad
        assert nn.functional.cosine_similarity(parameter.grad.flatten(), again.flatten(), dim=0) > 0.98, name


def test_without_a_compiler_a_run_is_slower_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """compile = true is in the configurations that everybody uses: it must not end a run."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    student = Student("r1", None)
    assert compiled(student, torch.device("cpu")) is student
    assert "no C++ compiler (no-such-compiler): nothing is compiled" in capsys.readouterr().err


def test_the_average_follows_the_weights() -> None:
    """What is exported is the running mean, not the last step's noise."""
    student = Student("r1", None)
    average = {name: torch.zeros_like(value) for name, value in student.state_dict().items()}
    update_average(average, student, decay=0.75)
    for name, value in student.state_dict().items():
        assert torch.allclose(average[name], value * 0.25)


def test_a_perfect_student_has_no_loss() -> None:
    """Both terms vanish exactly at the teacher's embedding."""
    embedding = torch.nn.functional.normalize(torch.randn(5, 512), dim=1)
    loss, cosine = distillation(embedding, embedding, torch.ones(5), 16.0)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert cosine.item() == pytest.approx(1, abs=1e-5)


def test_a_relation_that_differs_costs_even_at_equal_cosines() -> None:
    """Verification compares students with students: that is what the second term sees."""
    teacher = torch.eye(4)[:2]
    alike = torch.nn.functional.normalize(teacher + torch.eye(4)[2], dim=1)  # both lean the same way
    apart = torch.nn.functional.normalize(teacher + torch.eye(4)[2:], dim=1)  # each its own way
    losses = [distillation(student, teacher, torch.ones(2), 16.0) for student in (alike, apart)]
    assert losses[0][1] == pytest.approx(losses[1][1].item())
    assert losses[0][0] > losses[1][0]


def test_the_nearest_of_the_bank_must_be_the_own_face() -> None:
    """The own row costs nothing when it is nearest by far; another person's face costs, the same person's does not."""
    faces = torch.eye(4)[:3]
    bank = TeacherBank(faces.numpy(), np.array([5, 5, -1]), temperature=0.05)
    cost = [bank(faces[i : i + 1], faces[:1], torch.tensor([0]), torch.ones(1)).item() for i in range(3)]
    assert cost[0] == pytest.approx(0, abs=1e-6)
    assert cost[1] == pytest.approx(np.log(2), abs=1e-3)
    assert cost[2] == pytest.approx(20, abs=0.1)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    """One cycle, whatever the run's length."""
    factors = [rate_factor(progress, 0.1) for progress in np.linspace(0, 1, 101)]
    assert 0 < factors[0] < 0.1 and max(factors) == pytest.approx(1) and factors[-1] == pytest.approx(0, abs=1e-9)
    assert int(np.argmax(factors)) == 10


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    """A typing error must not train for hours with a default."""
    path = tmp_path / "x.toml"
    path.write_text('split = "r1"\nminutes = 1\nfaces = 1\nlearningrate = 1')
    with pytest.raises(ConfigError, match=r"unknown keys \['learningrate'\]"):
        FitConfig.read(path)
    path.write_text('split = "r1"')
    with pytest.raises(ConfigError, match="minutes"):
        FitConfig.read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('interaction = "sigmoid"', r"x.toml: interaction = 'sigmoid': expected one of \('weighted', 'gated'\)"),
        ('head = "cosface"', "head = 'cosface'"),
        ("batch = 0", "batch = 0: expected more than 0"),
        ("batch =", "x.toml cannot be read"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused(line: str, message: str, tmp_path: Path) -> None:
    """Before the data is loaded and the first minutes are spent."""
    path = tmp_path / "x.toml"
    path.write_text(f'split = "r1"\nminutes = 1\nfaces = 1\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        FitConfig.read(path)
