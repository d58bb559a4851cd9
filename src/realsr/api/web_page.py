"""The local web page."""

import ipaddress
import logging
import secrets
import signal
import socket
import tempfile
import threading
from pathlib import Path

from realsr.config.composition import takes_keys
from realsr.config.schema import AppConfig
from realsr.core.errors import UserError, import_extra

logger = logging.getLogger("realsr")

GRACE = 2  # seconds for requests in progress when the server stops


@takes_keys("app")
def app(config: AppConfig) -> None:
    """Serve the page on a loopback address until Ctrl-C, which ends the process.

    Raises UserError without the extra `app`, without a model, for another address, and for a port
    that cannot be used.
    """
    import_extra("starlette", "realsr app", "app")  # for realsr.web.server
    uvicorn = import_extra("uvicorn", "realsr app", "app")
    from realsr.web.server import make_application
    from realsr.web.work import Upscaler

    with _open_socket(config.host, config.port) as listener:
        upscaler = Upscaler(config)
        secret, folder = secrets.token_urlsafe(16), Path(tempfile.mkdtemp(prefix="realsr_app_"))
        application = make_application(config, upscaler, secret, folder)
        host, port = listener.getsockname()[:2]
        logger.info(
            "open http://%s:%d/%s/ in a browser on this machine; Ctrl-C stops the server",
            f"[{host}]" if ":" in host else host,
            port,
            secret,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="on",
                timeout_graceful_shutdown=GRACE,
            )
        )
        _set_signals()
        server.run(sockets=[listener])


def _set_signals() -> None:
    """Let Ctrl-C and a closed terminal end the process after the shutdown.

    uvicorn shuts down, which deletes the folder, and raises the signal again. Its default action
    then ends the process at once, even while a tile is computed.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a loopback address. Raises UserError."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise UserError(
            f"host={host}: expected a loopback address, such as 127.0.0.1 or ::1: the page is for "
            "this machine only. From another machine, use ssh -L 7860:127.0.0.1:7860 MACHINE"
        )
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        return socket.create_server((str(address), port), family=family)
    except OSError as error:
        raise UserError(
            f"host={host} port={port}: cannot be used ({error.strerror}): set another port, or "
            "port=0 for any free port"
        ) from error
