"""A client that knows protos/ and docs/protocol.md and nothing else: it imports no module of the project.

Usage: python client.py STUBS IDENTITY OPERATOR ADDRESS CODES
STUBS: folder of stubs generated from protos/.  IDENTITY, OPERATOR: folders with client.crt, client.key, ca.crt.
CODES: JSON, plane name -> nested lists of integer codes, one list a capture: two of a person, one of another.
Writes one JSON object with what it was told.
"""

import hashlib
import json
import struct
import sys
import time
import zlib
from pathlib import Path

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

STUBS, IDENTITY, OPERATOR, ADDRESS, CODES = sys.argv[1:6]
sys.path.insert(0, STUBS)

from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402

import duetface  # noqa: E402
from duetface.v1 import enrollment_pb2, enrollment_pb2_grpc, face_pb2, verification_pb2, verification_pb2_grpc  # noqa: E402


def connect(folder: Path) -> grpc.Channel:
    """A channel over mutual TLS."""
    parts = [(folder / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt")]
    return grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(*parts))


def flatten(nested: object) -> list[int]:
    """Codes in C order."""
    return [nested] if isinstance(nested, int) else [code for part in nested for code in flatten(part)]


def plane_bytes(codes: list[int], plane: dict) -> bytes:
    """docs/protocol.md, "The face": digit by digit."""
    digits = "".join(format(code & ((1 << plane["bits"]) - 1), f"0{plane['bits']}b") for code in codes)
    digits += "0" * (-len(digits) % 8)
    packed = bytes(int(digits[at : at + 8], 2) for at in range(0, len(digits), 8))
    if plane["codec"] == "stored":
        return packed
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(packed) + deflate.flush()


def probe_bytes(capture: dict, manifest: dict, digest: bytes) -> bytes:
    """A serialised Probe of one capture."""
    planes = [
        face_pb2.Plane(name=plane["name"], data=plane_bytes(flatten(capture[plane["name"]]), plane))
        for plane in manifest["planes"]
    ]
    quality = face_pb2.Quality(unified=0.9, sharpness=0.9, illumination=0.9, pose=0.9, size=0.9)
    face = face_pb2.ProtectedFace(split_digest=digest, planes=planes)
    return face_pb2.Probe(faces=[face], quality=quality, age_us=50_000).SerializeToString()


def signed(folder: Path, nonce: bytes, sequence: int, probe: bytes) -> face_pb2.SignedProbe:
    """docs/protocol.md, "Signature"."""
    key = serialization.load_pem_private_key((folder / "client.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    content = b"duetface/v1/signed-probe\x00" + struct.pack(">I", len(nonce)) + nonce
    content += struct.pack(">QI", sequence, len(probe)) + probe
    return face_pb2.SignedProbe(
        probe=probe, nonce=nonce, sequence=sequence, signature=key.sign(content, ec.ECDSA(hashes.SHA256()))
    )


def main() -> None:
    """Health-check, enrol two captures, verify a third of another person, identify and stream the second."""
    assert str(duetface.__file__).startswith(STUBS), f"the project itself was imported: {duetface.__file__}"
    agent, operator = Path(IDENTITY), Path(OPERATOR)
    captures = json.loads(Path(CODES).read_text())
    with connect(agent) as agent_channel, connect(operator) as operator_channel:
        health = health_pb2_grpc.HealthStub(agent_channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        asking = verification_pb2_grpc.VerificationServiceStub(agent_channel)
        enrolling = enrollment_pb2_grpc.EnrollmentServiceStub(operator_channel)
        operators = verification_pb2_grpc.VerificationServiceStub(operator_channel)

        served = asking.GetServiceInfo(verification_pb2.GetServiceInfoRequest(), timeout=10).splits[0]
        manifest, digest = json.loads(served.manifest_json), hashlib.sha256(served.manifest_json).digest()
        probes = [probe_bytes(capture, manifest, digest) for capture in captures]
        created, added = enrol(enrolling, operators, operator, probes[0])
        told = {
            "health": health_pb2.HealthCheckResponse.ServingStatus.Name(health.status),
            "digest_fits": digest == served.digest,
            "revisions_rise": added > created > 0,
            "verify_own": verify(asking, agent, probes[1], added),
            "verify_other": verify(asking, agent, probes[2], added),
            "stream": stream(asking, agent, digest, probes[1:]),
        }
    sys.stdout.write(json.dumps(told))


def enrol(
    enrolling: enrollment_pb2_grpc.EnrollmentServiceStub,
    asking: verification_pb2_grpc.VerificationServiceStub,
    operator: Path,
    probe: bytes,
) -> tuple[int, int]:
    """Create alice and add one template; the revision after each."""
    consent = enrollment_pb2.Consent(purpose="tests", text_version="1")
    consent.given_at.FromSeconds(int(time.time()) - 60)
    request = enrollment_pb2.CreateSubjectRequest(subject_id="alice", consent=consent)
    created = enrolling.CreateSubject(request, timeout=10).revision
    nonce = asking.GetChallenge(verification_pb2.GetChallengeRequest(), timeout=10).nonce
    template = enrollment_pb2.AddTemplateRequest(subject_id="alice", signed_probe=signed(operator, nonce, 0, probe))
    return created, enrolling.AddTemplate(template, timeout=10).revision


def verify(asking: verification_pb2_grpc.VerificationServiceStub, agent: Path, probe: bytes, revision: int) -> str:
    """Ask whether a probe shows alice, at this revision or a later one; the outcome's name."""
    nonce = asking.GetChallenge(verification_pb2.GetChallengeRequest(), timeout=10).nonce
    request = verification_pb2.VerifyRequest(
        subject_id="alice", signed_probe=signed(agent, nonce, 0, probe), at_least_revision=revision
    )
    return verification_pb2.Outcome.Name(asking.Verify(request, timeout=10).decision.outcome)


def stream(
    asking: verification_pb2_grpc.VerificationServiceStub, agent: Path, digest: bytes, probes: list[bytes]
) -> list[str]:
    """Authenticate each probe on one stream; outcomes in order of sequence."""
    answers: list[verification_pb2.Decision] = []
    nonces: list[bytes] = []

    def requests():  # type: ignore[no-untyped-def]
        configuration = verification_pb2.StreamConfiguration(split_digests=[digest], purpose="door")
        yield verification_pb2.AuthenticateRequest(configuration=configuration)
        for sequence, probe in enumerate(probes):
            while len(answers) < sequence or not nonces:
                time.sleep(0.01)
            yield verification_pb2.AuthenticateRequest(signed_probe=signed(agent, nonces[0], sequence, probe))

    for answer in asking.Authenticate(requests(), timeout=30):
        if answer.WhichOneof("content") == "ready":
            nonces.append(answer.ready.nonce)
        else:
            answers.append(answer.decision)
    return [
        f"{verification_pb2.Outcome.Name(decision.outcome)} {decision.subject_id}".strip()
        for decision in sorted(answers, key=lambda decision: decision.sequence)
    ]


main()
