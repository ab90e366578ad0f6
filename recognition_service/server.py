"""`duetface serve`: run the recognition service until SIGTERM or SIGINT."""

import asyncio
import logging
import signal

from gallery.keys import KeyProvider
from recognition_service.clocks import Clocks
from recognition_service.config import LivenessPolicy, ServiceConfig
from recognition_service.logs import configure_logging
from recognition_service.models import load_network, load_upcoming_network
from recognition_service.network import Network
from recognition_service.service import Service, running_service

logger = logging.getLogger(__name__)


async def serve(config: ServiceConfig, keys: KeyProvider | None = None) -> None:
    """Serve until a signal comes, then drain and return.

    keys: see running_service.
    Raises ConfigError, ModelError or GalleryError, naming file and remedy, if it must not start.
    """
    configure_logging()
    network = await asyncio.to_thread(load_network, config.models)
    await serve_network(config, network, keys, await asyncio.to_thread(load_upcoming_network, config.models))


async def serve_network(
    config: ServiceConfig, network: Network, keys: KeyProvider | None = None, upcoming: Network | None = None
) -> None:
    """As `serve`, with networks that are loaded already."""
    async with running_service(config, network, Clocks(), upcoming, keys=keys) as service:
        _announce(service)
        await _signalled()


async def _signalled() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _announce(service: Service) -> None:
    """Say what is served, on which terms, and what is not done."""
    config, network = service.config, service.network
    logger.info(
        "serving",
        extra={
            "address": service.address,
            "realm": service.realm,
            "split": network.split.name,
            "space": network.space_name,
            "fmr": config.decisions.target_fmr,
            "fmr_interval_95": network.calibration.interval(config.decisions.target_fmr),
            "subjects": service.gallery.size,
            "revision": service.gallery.revision,
            "transport": "mutual TLS only",
            "egress": "none",
        },
    )
    logger.info("model terms", extra={"space": network.space_name, "licence": network.licence})
    if (upcoming := service.upcoming) is not None:
        logger.info("moving", extra={"split": upcoming.split.name, "space": upcoming.space_name})
        logger.info("model terms", extra={"space": upcoming.space_name, "licence": upcoming.licence})
    if config.decisions.liveness is LivenessPolicy.OFF:
        logger.warning("liveness is off", extra={"meaning": "a photograph of an enrolled face may be accepted"})
