"""A cable that can be cut: forwards TCP connections on the loopback to a service until told not to."""

import contextlib
import socket
import threading
from types import TracebackType


class Relay:
    """Listens on `address`; bytes pass both ways while it is whole, connections die when it is cut."""

    def __init__(self, target: str) -> None:
        """target: HOST:PORT."""
        self._target = target
        self._whole = True
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Relay":
        """The relay itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut for good."""
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Drop every connection; new ones are dropped at once."""
        self._whole = False
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def mend(self, target: str) -> None:
        """Pass connections again, to this address."""
        self._target = target
        self._whole = True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                self._join(self._listener.accept()[0])

    def _join(self, near: socket.socket) -> None:
        host, port = self._target.rsplit(":", 1)
        try:
            if not self._whole:
                raise ConnectionError("the cable is cut")
            far = socket.create_connection((host, int(port)))
        except OSError:
            near.close()
            return
        self._sockets += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
