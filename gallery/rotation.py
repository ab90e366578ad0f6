"""The realm's secret orthogonal matrix: keyed obfuscation and renewability of templates.

Rotated embeddings keep every cosine within a realm and are unlinkable between realms while the seed is secret.
Who holds the seed undoes the rotation by its transpose: it is no encryption (docs/privacy.md).
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from gallery.sealing import derive


def orthogonal_matrix(seed: bytes, dimension: int = 512) -> NDArray[np.float64]:
    """(dimension, dimension) float64, uniform over the orthogonal group (Mezzadri 2007, section 5).

    seed: 32 bytes.  Each step is defined here and not left to a library's generator, so that another machine or
    NumPy version gives the same matrix to within float64 rounding.
    """
    normal = _standard_normal(seed, dimension * dimension).reshape(dimension, dimension)
    q, r = np.linalg.qr(normal)
    # LAPACK is free to choose signs; fixing the diagonal of R positive makes the factor unique.
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float64)


def _standard_normal(seed: bytes, count: int) -> NDArray[np.float64]:
    """Box-Muller over the ChaCha20 key stream (RFC 8439): `count` float64 standard normal values."""
    pairs = (count + 1) // 2
    cipher = Cipher(ChaCha20(derive(seed, "rotation matrix v1"), bytes(16)), mode=None)
    stream = cipher.encryptor().update(bytes(16 * pairs))
    # 53 bits a value, moved into (0, 1] so that the logarithm is finite.
    uniform = ((np.frombuffer(stream, dtype="<u8") >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[0::2]))
    angle = 2.0 * np.pi * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def rotate(matrix: NDArray[np.float64], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate (B, D) unit embeddings; computed in float64 so that the cosine moves by float32 rounding only."""
    return np.ascontiguousarray((embeddings.astype(np.float64) @ matrix.T).astype(np.float32))


def transfer_matrix(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """R_new R_old^T: rotates what was rotated by `old` to where `new` would have put it, without the original."""
    return np.asarray(new @ old.T, dtype=np.float64)
