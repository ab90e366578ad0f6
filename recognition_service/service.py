"""One running service, put together: gallery, network, rules, servicers and the secure port."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from duetface import __version__
from duetface.errors import ConfigError
from duetface.identity import RESTORE_IT, PeerIdentity, server_credentials
from duetface.revocation import RevocationList
from duetface.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)
from gallery.gallery import Gallery, GalleryOptions
from gallery.indexes import index_factory
from gallery.key_settings import open_keys
from gallery.keys import KeyProvider
from recognition_service.access import Gatekeeper
from recognition_service.admission import Admission
from recognition_service.audit import AuditTrail
from recognition_service.batcher import Batcher
from recognition_service.clocks import Clocks
from recognition_service.config import ServiceConfig, load_config
from recognition_service.decision import CapturePolicy
from recognition_service.enrolment import Enroller
from recognition_service.lockout import LockOutPolicy
from recognition_service.network import Network
from recognition_service.pipeline import Policy, Recogniser
from recognition_service.replica import Saver, following, load
from recognition_service.rpc.audit import AuditServicer
from recognition_service.rpc.enrolment import EnrollmentServicer
from recognition_service.rpc.guard import Guard, InFlight
from recognition_service.rpc.streaming import Streams
from recognition_service.rpc.verification import Served, VerificationServicer
from recognition_service.session import NonceBook
from recognition_service.spaces import ServedSpace, Spaces
from recognition_service.upgrade import UpgradePolicy, Upgrader

logger = logging.getLogger(__name__)

# Lies in the state folder while calls are answered: for a probe that has no certificate to ask health with.
READY_FILE = "ready"
LAST_BYTES_S = 1.0  # for answers that are written but not yet sent when the work is done
KEEPALIVE_TIMEOUT_MS = 20_000
MIN_PING_MS = 30_000  # a client that pings more often is cut off by gRPC
STREAMS_PER_CONNECTION = 256

SERVICES = (
    verification_pb2.DESCRIPTOR.services_by_name["VerificationService"].full_name,
    enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name,
    audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
)


@dataclass(frozen=True)
class Service:
    """A service that runs.

    address: HOST:PORT it is bound to.  upcoming: the network of the space that the gallery moves to, if it moves.
    """

    address: str
    realm: str
    gallery: Gallery
    network: Network
    config: ServiceConfig
    upcoming: Network | None = None


@asynccontextmanager
async def running_service(
    config: ServiceConfig,
    network: Network,
    clocks: Clocks,
    upcoming: Network | None = None,
    *,
    keys: KeyProvider | None = None,
) -> AsyncIterator[Service]:
    """Run the service inside the block; leaving it drains: accepted work is finished within the grace.

    While the gallery is loaded the port is open already, health says NOT_SERVING, and calls are turned away.
    upcoming: of the space that the gallery moves to.
    keys: None opens what is configured, with nothing in the environment.
    Raises ConfigError, ModelError or GalleryError, naming file and remedy, if it must not start.
    """
    realm = _realm(config, clocks.now())
    _check_upcoming(config, network, upcoming)
    keys = keys or open_keys(config.key_settings, {})
    gallery = await asyncio.to_thread(_open_gallery, config, realm, network, upcoming, clocks, keys)
    saver = Saver(gallery) if config.snapshot_path is not None else None
    try:
        async with AsyncExitStack() as running:
            current = await _served(running, config, network, clocks)
            other = None if upcoming is None else await _served(running, config, upcoming, clocks)
            spaces = Spaces(current, other, config.models.next_captures)
            parts = _Parts(config, network, clocks, realm, gallery, spaces)
            address = await running.enter_async_context(parts.listening())
            await load(gallery, clocks)
            running.enter_context(
                following(gallery, config.replica.poll_s, lambda: load_config(config.state).database_url)
            )
            if saver is not None:
                await running.enter_async_context(saver.every(config.replica.snapshot_every_min * 60))
            await parts.get_ready()
            yield Service(address, realm, gallery, network, config, upcoming)
        if saver is not None:  # after the last change
            await asyncio.to_thread(saver.save)
    finally:
        gallery.close()


async def _served(running: AsyncExitStack, config: ServiceConfig, network: Network, clocks: Clocks) -> ServedSpace:
    """A network with a queue of its own, emptied when the stack is left."""
    batcher = Batcher(
        network.embedder,
        clocks.monotonic_s,
        batch_max=config.load.batch_max,
        batch_wait_s=config.load.batch_wait_ms / 1000,
        queue_max=config.load.queue_max,
    )
    point = network.operating_point(config.decisions.target_fmr)
    return ServedSpace(network.space_digest, network.split, point, await running.enter_async_context(batcher))


def _check_upcoming(config: ServiceConfig, network: Network, upcoming: Network | None) -> None:
    """Raises ConfigError for a move that could not take anybody along."""
    if upcoming is None:
        return
    if upcoming.space_digest == network.space_digest:
        raise ConfigError("config.toml: models.next_space is the space that is served already: name another, or none")
    try:
        network.calibration.threshold_at(config.models.next_fmr)
    except ConfigError as error:
        raise ConfigError(f"config.toml: models.next_fmr: {error}") from error


def _realm(config: ServiceConfig, now: datetime) -> str:
    """The realm's name stands in the service's own certificate, so no setting can contradict it."""
    path = config.state / "server" / "server.crt"
    peer = PeerIdentity.of_file(path, RESTORE_IT)
    if peer.not_after <= now:
        raise ConfigError(f"{path} expired on {peer.not_after:%Y-%m-%d}: `duetface certs renew` makes a new one")
    return peer.realm


def _open_gallery(
    config: ServiceConfig, realm: str, network: Network, upcoming: Network | None, clocks: Clocks, keys: KeyProvider
) -> Gallery:
    """Not loaded yet."""
    networks = [network] if upcoming is None else [network, upcoming]
    options = GalleryOptions(
        templates_per_subject=config.enrolment.max_templates,
        spaces=frozenset(network.space_digest for network in networks),
        index_factory=index_factory(config.index_settings),
        busy_timeout_ms=config.storage.busy_timeout_ms,
        snapshot_path=config.snapshot_path,
        follower=config.follower_name,
    )
    return Gallery.open(config.database_url, realm, keys, clocks.now, options, load=False)


class _Parts:
    """The objects of one service that know each other."""

    def __init__(
        self,
        config: ServiceConfig,
        network: Network,
        clocks: Clocks,
        realm: str,
        gallery: Gallery,
        spaces: Spaces,
    ) -> None:
        self._config = config
        self._clocks = clocks
        self._realm = realm
        self._gallery = gallery
        self._audit = AuditTrail(gallery, clocks.monotonic_s)
        self._admission = Admission(config.load.rate_per_s, config.load.burst)
        self._in_flight = InFlight(config.load.in_flight)
        self._nonces = NonceBook(
            config.freshness.nonce_lifetime_s, config.freshness.nonces_per_certificate, secrets.token_bytes
        )
        upgrade = UpgradePolicy(
            config.models.next_fmr, config.enrolment.min_quality, config.decisions.liveness, network.calibration
        )
        self._recogniser = Recogniser(
            spaces, gallery, self._audit, _policy(config), Upgrader(spaces, gallery, upgrade), clocks
        )
        self._streams = Streams(
            self._recogniser,
            self._admission,
            max_age_s=config.listen.stream_max_age_s,
            deadline_s=config.load.deadline_s,
            clocks=clocks,
        )
        self._health = health_aio.HealthServicer()
        self._ready_file = config.state / READY_FILE

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen on the secure port inside the block, turning work away until `get_ready`; drain at the end.

        Gives HOST:PORT.
        """
        server = grpc.aio.server(
            interceptors=[self._guard()],
            options=_options(self._config),
            maximum_concurrent_rpcs=self._config.listen.max_concurrent_rpcs,
        )
        self._add_servicers(server)
        address = _bind(server, self._config)
        self._in_flight.starting = True
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._ready_file.unlink(missing_ok=True)  # a crash may have left it
        await server.start()
        try:
            yield address
        finally:
            self._ready_file.unlink(missing_ok=True)
            await self._drain(server)

    async def get_ready(self) -> None:
        """Take work from now on."""
        self._in_flight.starting = False
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        self._ready_file.touch(mode=0o600)

    async def _say(self, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType") -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    def _guard(self) -> Guard:
        revoked = RevocationList(self._config.state / "revoked.json")
        gatekeeper = Gatekeeper(self._realm, revoked, self._clocks.now)
        return Guard(
            gatekeeper,
            self._admission,
            self._audit,
            self._in_flight,
            self._clocks.monotonic_s,
            self._config.listen.stream_max_age_s,
        )

    def _add_servicers(self, server: grpc.aio.Server) -> None:
        config = self._config
        verification = VerificationServicer(
            self._recogniser,
            self._nonces,
            config.freshness.nonce_lifetime_s,
            self._streams,
            Served(self._realm, __version__, config.decisions.liveness),
            config.load.deadline_s,
            self._clocks,
        )
        enroller = Enroller(self._recogniser, self._gallery, config.enrolment)
        enrolment = EnrollmentServicer(self._gallery, enroller, self._nonces, config.load.deadline_s, self._clocks)
        verification_pb2_grpc.add_VerificationServiceServicer_to_server(verification, server)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrolment, server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(self._gallery), server)
        add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    async def _drain(self, server: grpc.aio.Server) -> None:
        """Say that we are going, take nothing new, finish what was accepted, then close."""
        grace_s = self._config.listen.drain_grace_s
        logger.info("draining", extra={"grace_s": grace_s, "running": self._in_flight.running})
        await self._health.enter_graceful_shutdown()
        self._in_flight.draining = True
        await self._streams.drain()
        try:
            async with asyncio.timeout(grace_s):
                await self._in_flight.idle()
        except TimeoutError:
            logger.warning("grace is over", extra={"running": self._in_flight.running})
        await server.stop(LAST_BYTES_S)


def _policy(config: ServiceConfig) -> Policy:
    return Policy(
        fmr=config.decisions.target_fmr,
        capture=CapturePolicy(
            min_quality=config.decisions.min_quality,
            max_age_us=round(config.freshness.capture_max_age_s * 1e6),
            liveness=config.decisions.liveness,
        ),
        lock_out=LockOutPolicy(config.lock_out.delay_after, config.lock_out.delay_s, config.lock_out.stop_after),
        count_searches=config.lock_out.count_searches,
        valid_for_s=config.decisions.valid_for_s,
    )


def _options(config: ServiceConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.listen.max_message_bytes),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        ("grpc.keepalive_time_ms", round(config.listen.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
        # Otherwise a second service on the same port would silently get half of the connections.
        ("grpc.so_reuseport", 0),
    ]


def _bind(server: grpc.aio.Server, config: ServiceConfig) -> str:
    """HOST:PORT that was bound.  Raises ConfigError."""
    wanted = config.listen.address
    credentials = server_credentials(config.state / "server")
    try:
        port = server.add_secure_port(wanted, credentials)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {wanted}: is it in use, or not this machine's? Try another") from error
    if port == 0:
        raise ConfigError(f"cannot listen on {wanted}: is it in use, or not this machine's? Try another")
    return f"{wanted.rpartition(':')[0]}:{port}"
