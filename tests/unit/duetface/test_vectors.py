"""The stored vectors of the protocol: what another implementation is checked against stays true of ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duetface.codec import decode_plane, encode_plane
from duetface.errors import SignatureError
from duetface.identity import signed_bytes, verify_signature
from duetface.spec import PlaneSpec, SplitSpec
from duetface.v1 import face_pb2

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "protocol.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["packing"], ids=lambda v: f"{'int' if v['signed'] else 'uint'}{v['bits']}")
def test_planes_pack_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """The vectors were made digit by digit, not by our packer."""
    for codec, key in (("stored", "stored_hex"), ("deflate", "deflated_hex")):
        plane = PlaneSpec("plane", tuple(vector["shape"]), vector["bits"], vector["signed"], codec, (1.0,))
        codes = np.array(vector["codes"], np.int8 if vector["signed"] else np.uint8).reshape(vector["shape"])
        np.testing.assert_array_equal(decode_plane(bytes.fromhex(vector[key]), plane), codes)
        if codec == "stored":  # deflate streams may differ between encoders and still be right
            assert encode_plane(codes, plane).hex() == vector[key]


def test_the_signed_bytes_are_those_of_the_vector() -> None:
    """Every client and every realm must sign and check the same bytes."""
    vector = VECTORS["signature"]
    nonce, probe = bytes.fromhex(vector["nonce_hex"]), bytes.fromhex(vector["probe_hex"])
    assert signed_bytes(nonce, vector["sequence"], probe).hex() == vector["signed_bytes_hex"]


def test_the_stored_signature_verifies() -> None:
    """And not for another sequence."""
    vector = VECTORS["signature"]
    signed = face_pb2.SignedProbe(
        probe=bytes.fromhex(vector["probe_hex"]),
        nonce=bytes.fromhex(vector["nonce_hex"]),
        sequence=vector["sequence"],
        signature=bytes.fromhex(vector["signature_hex"]),
    )
    certificate_pem = vector["certificate_pem"].encode()
    verify_signature(certificate_pem, signed)
    signed.sequence += 1
    with pytest.raises(SignatureError):
        verify_signature(certificate_pem, signed)


def test_a_manifest_has_the_digest_of_the_vector() -> None:
    """The digest is what both ends compare; it must not depend on the version of our code."""
    vector = VECTORS["split"]
    split = SplitSpec.from_dict(vector["manifest"])
    assert split.digest.hex() == vector["digest_hex"]
    assert json.loads(vector["canonical_json"]) == split.to_dict()
