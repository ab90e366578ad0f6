import hashlib

import numpy as np
import pytest

from gallery.rotation import orthogonal_matrix, rotate, transfer_matrix
from tests.unit.gallery.world import person

SEED = bytes(range(32))
# Made by this code with NumPy 2.4.6 and OpenBLAS; no entry lies nearer than 1e-12 to a rounding edge.
DIGEST = "2ddf83bd50e56a954fc5439c425bfa05ff66e4f35ee7e6d1e3b113eccc27489e"
CORNER = [
    [0.028388452037262812, 0.013090958816183013, 0.0540152504245006],
    [-0.03020388981960428, -0.08882663538332845, -0.05470664566239699],
]


@pytest.fixture(scope="module")
def matrix():
    """The matrix of SEED at the dimension of the networks."""
    return orthogonal_matrix(SEED)


def test_the_matrix_is_orthogonal(matrix):
    """Then every cosine is kept and the transpose undoes it."""
    assert matrix.shape == (512, 512) and matrix.dtype == np.float64
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(512), atol=1e-12)


def test_the_matrix_of_a_seed_never_changes(matrix):
    """Templates outlive machines and NumPy versions: the entries, rounded to 1e-6, are pinned by digest and value."""
    rounded = np.rint(matrix * 1e6).astype("<i8")
    assert hashlib.sha256(rounded.tobytes()).hexdigest() == DIGEST
    np.testing.assert_allclose(matrix[:2, :3], CORNER, atol=1e-12)


def test_two_seeds_give_unrelated_matrices(matrix):
    """One flipped bit of the seed is another realm."""
    other = orthogonal_matrix(bytes([SEED[0] ^ 1]) + SEED[1:])
    assert np.abs(matrix @ other.T).max() < 0.3


def test_the_matrix_is_uniform_in_its_moments(matrix):
    """Entries of a Haar matrix have mean 0 and variance 1/D; a QR without sign fix has a biased diagonal."""
    assert abs(matrix.mean()) < 4 / 512
    assert matrix.var() == pytest.approx(1 / 512, rel=0.02)
    assert abs(np.mean([orthogonal_matrix(bytes([n] * 32), 16).trace() for n in range(200)])) < 0.35


@pytest.mark.parametrize("dimension", [1, 2, 3, 64])
def test_any_dimension_works(dimension):
    """Odd counts of Gaussian values too."""
    small = orthogonal_matrix(SEED, dimension)
    np.testing.assert_allclose(small @ small.T, np.eye(dimension), atol=1e-12)


def test_rotation_keeps_cosines_to_float32_rounding(matrix):
    """Thresholds are calibrated on unrotated embeddings."""
    embeddings = np.stack([person(n, dimension=512) for n in range(20)])
    rotated = rotate(matrix, embeddings)
    assert rotated.dtype == np.float32
    before = embeddings.astype(np.float64) @ embeddings.T.astype(np.float64)
    np.testing.assert_allclose(rotated.astype(np.float64) @ rotated.T.astype(np.float64), before, atol=1e-6)


def test_rotated_embeddings_of_two_realms_look_like_strangers(matrix):
    """Unlinkability across realms while the seeds are secret (docs/method.md 5): mates score as impostors do."""
    other = orthogonal_matrix(bytes(32))
    people = np.stack([person(n, dimension=512) for n in range(200)])
    across = np.sum(rotate(matrix, people) * rotate(other, people), axis=1)
    assert abs(across.mean()) < 4 * 512**-0.5 / 200**0.5
    assert across.std() == pytest.approx(512**-0.5, rel=0.2)


def test_a_template_is_reissued_without_its_picture(matrix):
    """Revocation: R_new R_old^T moves what is stored, and a fresh capture matches it as before."""
    other = orthogonal_matrix(bytes(32))
    embeddings = np.stack([person(n, dimension=512) for n in range(5)])
    moved = rotate(transfer_matrix(matrix, other), rotate(matrix, embeddings))
    np.testing.assert_allclose(moved, rotate(other, embeddings), atol=1e-6)
