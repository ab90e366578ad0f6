"""A message computed from its template: exactly, whatever the layer, or not at all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from duetface.errors import ModelError
from duetface.manifest import ModelCatalogue
from networks.export import export_server
from networks.learned import LearnedServer
from networks.registry import split_named
from privacy.rebuild import LinearLayer, rebuilt_codes

SPEC = split_named("l1")
(PLANE,) = SPEC.planes


def codes(count: int, seed: int) -> np.ndarray:
    """(count, 512) as a device makes them: of unit variance, then rounded and kept within four bits."""
    values = np.random.default_rng(seed).normal(size=(count, 512))
    values *= np.sqrt(512) / np.linalg.norm(values, axis=1, keepdims=True)
    return np.clip(np.rint(values / PLANE.scale[0]), -7, 7).astype(np.int64)


def templates(server: LearnedServer, sent: np.ndarray) -> np.ndarray:
    """What the service makes of them."""
    with torch.no_grad():
        planes = {PLANE.name: torch.from_numpy(sent[:, :, None, None] * PLANE.scale[0]).float()}
        embedding: np.ndarray = server(planes).numpy()
    return embedding


def test_codes_are_computed_from_their_template(tmp_path: Path) -> None:
    """Whatever the layer has learned: rotation, stretch and shift."""
    torch.manual_seed(1)
    server = LearnedServer()
    torch.nn.init.normal_(server.linear.bias, std=0.2)
    with torch.no_grad():
        server.linear.weight.add_(torch.randn(512, 512) * 0.03)
    sent = codes(20, 1)
    found = templates(server, sent)
    export_server(server, SPEC, tmp_path / "server.onnx")
    layer = LinearLayer.read(tmp_path / "server.onnx")
    assert layer.condition > 2
    assert np.array_equal(rebuilt_codes(found, layer, PLANE), sent)


def test_a_wrong_layer_rebuilds_nothing() -> None:
    """The attack can fail: its success says something."""
    sent = codes(5, 2)
    found = templates(LearnedServer(), sent)
    wrong = LinearLayer(np.linalg.qr(np.random.default_rng(1).normal(size=(512, 512)))[0], np.zeros(512))
    assert (rebuilt_codes(found, wrong, PLANE) == sent).mean() < 0.3


def test_the_default_split_tells_with_its_codes_what_its_template_tells(models: Path) -> None:
    """The shipped float32 layer can be undone, so that the excess of the codes is zero: no attack can say otherwise."""
    catalogue = ModelCatalogue(models)
    layer = LinearLayer.read(models / "spaces" / catalogue.default_space().name / "server.onnx")
    sent = codes(50, 3)
    values = sent * PLANE.scale[0] @ layer.weight.T + layer.bias
    found = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    assert np.array_equal(rebuilt_codes(found, layer, catalogue.default_split().plane("codes")), sent)


def test_a_network_of_more_than_one_layer_is_refused(models: Path) -> None:
    """What loses something cannot be turned back, and the attack does not pretend."""
    with pytest.raises(ModelError, match="only a network of one linear layer"):
        LinearLayer.read(models / "spaces" / "r1-1-int8" / "server.onnx")
