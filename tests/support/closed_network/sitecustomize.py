"""Close the network to this process: connections and look-ups beyond this machine fail, and are written to a file.

Python imports a module of this name from PYTHONPATH when it starts, which closes the network to child processes, too.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOG = "CLOSED_NETWORK"  # environment variable: the file that attempts are written to


def close(log: Path, replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace the functions of `socket`; `replace` may undo it later."""

    def refuse(host: Any) -> None:
        local = host in ("localhost", "::1", "", None) or str(host).startswith("127.")
        if not local:
            with log.open("a") as file:
                file.write(f"{host}\n")
            raise OSError(f"{host}: the network is closed")

    def closed(name: str) -> Callable[..., Any]:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX:
                refuse(address[0])
            return original(self, address)

        return call

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *args, **kwargs)

    for name in ("connect", "connect_ex"):
        replace(socket.socket, name, closed(name))
    replace(socket, "getaddrinfo", getaddrinfo)


if LOG in os.environ:
    close(Path(os.environ[LOG]))
