"""The web application of the local page: its files, and the jobs that it starts."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from realsr import __version__
from realsr.config.schema import AppConfig, Share
from realsr.core.errors import ImageError, UserError
from realsr.core.files import parse_json
from realsr.core.ranges import check_value
from realsr.inference.tiling import smallest_size
from realsr.reporting.pages import FILES
from realsr.web.jobs import Job, JobQueue, Work
from realsr.web.work import (
    FORMATS,
    Upscaler,
    check_bytes,
    check_photo,
    compare_sets,
    describe_pool,
    place_photo,
)

PAGE = Path(__file__).parent / "page"
SETS = ("photo", "a", "b")  # of photos that a job can hold, each a subfolder of its folder
MAX_OPTIONS = 10_000  # bytes
HEADERS = {
    # The page and the reports that it shows can load nothing from other addresses.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # photos do not stay in the browser's cache
}


def make_application(config: AppConfig, upscaler: Upscaler, secret: str, folder: Path) -> Starlette:
    """Return the application; its address is /<secret>/, and all others are not found.

    secret: known only to whoever reads the terminal, so that neither other users of the machine nor
    other pages in the browser can use the application. folder: for photos and results; it is
    deleted when the server stops.
    """
    server = _Server(config, upscaler, JobQueue(folder))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        server.jobs.close()
        shutil.rmtree(folder, ignore_errors=True)

    routes = [
        Route("/settings", server.settings),
        Route("/jobs", server.create, methods=["POST"]),
        Route("/jobs/{job}", server.describe),
        Route("/jobs/{job}", server.remove, methods=["DELETE"]),
        Route("/jobs/{job}/photos/{set}", server.receive, methods=["PUT"]),
        Route("/jobs/{job}/files/{file}", server.send),
        Route("/jobs/{job}/{work}", server.start, methods=["POST"]),
        Mount("/report", StaticFiles(directory=FILES)),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Starlette(
        routes=[Mount(f"/{secret}", routes=routes)],
        middleware=[Middleware(_Headers)],
        exception_handlers={UserError: _refuse, ImageError: _refuse},
        lifespan=lifespan,
    )


class _Headers:
    """Adds `HEADERS` to all responses."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _refuse(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


class _Server:
    """The functions of the addresses."""

    def __init__(self, config: AppConfig, upscaler: Upscaler, jobs: JobQueue):
        self._config, self._upscaler, self.jobs = config, upscaler, jobs

    async def settings(self, _: Request) -> Response:
        """Return the choices, initial values and limits of the page."""
        config = self._config
        return JSONResponse(
            {
                "version": __version__,
                "models": self._upscaler.scales,
                "formats": FORMATS,
                "strength": config.strength,
                "tile": config.tile,
                "min_tile": smallest_size(config.overlap),
                "pool": "" if config.pool_dir is None else str(config.pool_dir),
                "max_megabytes": config.max_megabytes,
                "max_megapixels": config.max_megapixels,
                "max_photos": config.max_photos,
            }
        )

    async def create(self, _: Request) -> Response:
        """Create a job, to which photos can be sent."""
        return JSONResponse({"job": self.jobs.create().name})

    async def receive(self, request: Request) -> Response:
        """Store a photo, the body of the request; its size is checked before and while it comes."""
        job, name = self._find(request), request.query_params.get("name", "")
        if request.path_params["set"] not in SETS or job.state != "receiving":
            raise HTTPException(404)
        limit = self._config.max_megabytes
        length = request.headers.get("content-length", "")
        check_bytes(name, int(length) if length.isdigit() else 0, limit)
        folder = job.folder / request.path_params["set"]
        folder.mkdir(exist_ok=True)
        if len(list(folder.iterdir())) >= self._config.max_photos:
            raise UserError(
                f"{name}: more than {self._config.max_photos} photos: send fewer, or start "
                "realsr app with a larger max_photos"
            )
        path, size = place_photo(folder, name), 0
        try:
            with path.open("xb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    check_bytes(name, size, limit)
                    file.write(chunk)
            await run_in_threadpool(check_photo, path, self._config.max_megapixels)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise UserError(f"{name} cannot be stored: {error.strerror}") from error
            raise
        return JSONResponse({})

    async def start(self, request: Request) -> Response:
        """Append the job to the queue: upscale, pool or domains, with options as JSON."""
        job = self._find(request)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_OPTIONS:
                raise HTTPException(413)
        try:
            options = parse_json(body)
        except ValueError:
            options = None
        works: dict[str, Callable[[Job, dict[str, Any]], Work]] = {
            "upscale": self._upscale,
            "pool": self._describe_pool,
            "domains": self._compare,
        }
        if not isinstance(options, dict) or request.path_params["work"] not in works:
            raise HTTPException(404)
        self.jobs.submit(job, works[request.path_params["work"]](job, options))
        return JSONResponse({})

    async def describe(self, request: Request) -> Response:
        """Return the state of a job."""
        job = self._find(request)
        return JSONResponse(job.describe() | {"before": self.jobs.count_before(job)})

    async def remove(self, request: Request) -> Response:
        """Cancel a job and delete its files."""
        self.jobs.remove(self._find(request))
        return JSONResponse({})

    async def send(self, request: Request) -> Response:
        """Send a result of a job."""
        job, name = self._find(request), request.path_params["file"]
        if name not in job.files or not (job.folder / name).is_file():
            raise HTTPException(404)
        return FileResponse(job.folder / name)

    def _find(self, request: Request) -> Job:
        job = self.jobs.find(request.path_params["job"])
        if job is None:
            raise HTTPException(404)
        return job

    def _upscale(self, job: Job, options: dict[str, Any]) -> Work:
        photos = list((job.folder / "photo").glob("*"))
        if len(photos) != 1:
            raise UserError("choose a photo")
        [photo] = photos
        weights, strength = options.get("weights"), options.get("strength")
        tile, kind = options.get("tile"), options.get("format")
        if not isinstance(weights, str) or weights not in self._upscaler.scales:
            raise UserError(f"weights={weights}: expected {', '.join(self._upscaler.scales)}")
        if not isinstance(strength, int | float):
            raise UserError(f"strength={strength}: expected a number from 0 to 1")
        check_value("strength", strength, Share)
        if tile is not None and not isinstance(tile, int):
            raise UserError(f"tile={tile}: expected a number of pixels")
        if kind is not None and kind not in FORMATS:
            raise UserError(f"format={kind}: expected {', '.join(FORMATS)}")
        suffix = kind and f".{kind}"
        return lambda job: self._upscaler.upscale(job, photo, weights, strength, tile, suffix)

    def _describe_pool(self, _: Job, options: dict[str, Any]) -> Work:
        folder = _read_folder("pool", options.get("pool"))
        return lambda job: describe_pool(job, folder)

    def _compare(self, job: Job, options: dict[str, Any]) -> Work:
        a, b = (
            job.folder / letter
            if (job.folder / letter).is_dir()
            else _read_folder(letter, options.get(letter))
            for letter in ("a", "b")
        )
        return lambda job: compare_sets(job, a, b, self._config)


def _read_folder(name: str, value: object) -> Path:
    """Return an existing folder of this machine. Raises UserError."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise UserError(f"{name}: enter the path of a folder, or drop photos")
    folder = Path(value.strip()).expanduser()
    if not folder.is_dir():
        raise UserError(f"{name}: {folder}: no such folder")
    return folder
