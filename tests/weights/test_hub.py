"""Download from and upload to a server on this machine that answers as the Hugging Face Hub does."""

import base64
import functools
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

import realsr
from realsr.core.errors import UserError
from realsr.imaging import write_uint8
from realsr.networks import build_generator
from realsr.weights import load_generator, save_generator
from realsr.weights.hub import check_upload, find_in_hub, upload_files

TOKEN = "hf_secret0123456789"
SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
FIRST = "1" * 40


class Server(ThreadingHTTPServer):
    """Holds the files of one repository by commit, the newest last."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits = dict[str, dict[str, bytes]]()
        self.requests = list[str]()
        self.created: dict[str, object] | None = None
        self.stated_sha256: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if self.path == "/api/whoami-v2":
            is_valid = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.answer(200 if is_valid else 401, b'{"name": "me", "auth": {}}')
            return
        if self.path.startswith("/api/"):
            self.answer(200, json.dumps({"siblings": [], "id": "me/cam"}).encode())
            return
        _, owner, name, _, revision, file = self.path.split("/", 5)
        commit = revision if revision in self.server.commits else list(self.server.commits)[-1]
        content = self.server.commits[commit].get(file)
        if (owner, name) != ("me", "cam") or (revision not in ("main", "v1", commit)):
            self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
        elif content is None:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        else:
            sha256 = self.server.stated_sha256 or hashlib.sha256(content).hexdigest()
            self.answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{sha256}"'})

    do_GET = do_HEAD

    def do_POST(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            answer: dict[str, object] = {"url": f"{self.server.url}/me/cam"}
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            answer = {"files": files}
        elif "/commit/" in self.path:
            entries = [json.loads(line) for line in body.splitlines()]
            files = dict(list(self.server.commits.values())[-1]) if self.server.commits else {}
            for entry in entries:
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            commit = f"{len(self.server.commits) + 1}" * 40
            self.server.commits[commit] = files
            # The client reads the repository's name from an address of its default server.
            address = f"{huggingface_hub.constants.ENDPOINT}/me/cam/commit/{commit}"
            answer = {"commitUrl": address, "commitOid": commit}
        else:  # the check of a card's YAML
            answer = {"errors": [], "warnings": []}
        self.answer(200, json.dumps(answer).encode())

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *details: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that the library's client asks, with a cache in the test's folder."""
    find_in_hub.cache_clear()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        download = functools.partial(
            huggingface_hub.hf_hub_download, endpoint=server.url, cache_dir=tmp_path / "cache"
        )
        api = functools.partial(huggingface_hub.HfApi, endpoint=server.url)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub, "HfApi", api)
        yield server
        server.shutdown()


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_generator(SIZE, 2)


def weights(folder: Path, seed: int = 0) -> bytes:
    save_generator(folder / "x.safetensors", network(seed), SIZE, 2)
    return (folder / "x.safetensors").read_bytes()


def test_uploaded_files_come_back_by_commit(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights(tmp_path, 0))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "private.txt").touch()
    names = ["README.md", "model.safetensors"]
    check_upload("me/cam")
    first = upload_files(folder, names, "me/cam")
    (folder / "model.safetensors").write_bytes(weights(tmp_path, 1))
    second = upload_files(folder, names, "me/cam")
    assert (first, second) == (f"hf://me/cam@{FIRST}", f"hf://me/cam@{'2' * 40}")
    assert server.created is not None
    assert server.created["name"] == "cam"
    # The keys of versions 0 and 1 of the library.
    assert server.created.get("private") or server.created["visibility"] == "private"
    assert sorted(server.commits[FIRST]) == names, "no other file of the folder"
    for source, seed in ((first, 0), (second, 1), ("hf://me/cam", 1), ("hf://me/cam@v1", 1)):
        generator, scale = load_generator(source)
        assert scale == 2
        expected = network(seed).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in generator.state_dict().items())
    pinned = f"hf://me/cam: to use the same file later: {second}/model.safetensors"
    assert pinned in caplog.messages
    assert TOKEN not in caplog.text


def test_a_process_asks_the_server_once(server: Server, tmp_path: Path) -> None:
    server.commits[FIRST] = {"a/b.safetensors": weights(tmp_path)}
    paths = {find_in_hub("hf://me/cam/a/b.safetensors") for _ in range(3)}
    count = len(server.requests)
    assert len(paths) == 1
    find_in_hub("hf://me/cam/a/b.safetensors")
    assert len(server.requests) == count


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://me", r"hf://me: expected hf://OWNER/NAME\[@REVISION\]"),
        ("hf://me/cam@", "expected hf://OWNER/NAME"),
        ("hf://../cam", "expected hf://OWNER/NAME"),
        ("hf://me/cam/x.pth", "only safetensors are downloaded: name a file that ends in"),
        ("hf://me/cam/y.safetensors", "cannot be downloaded .*EntryNotFound"),
        ("hf://you/cam", "cannot be downloaded .*RepositoryNotFound.*a private repository needs"),
        ("hf://me/cam/pickle.safetensors", "is a PyTorch file, expected a safetensors file"),
    ],
)
def test_what_cannot_be_downloaded(
    source: str, message: str, server: Server, tmp_path: Path
) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    pickle = (tmp_path / "x.pth").read_bytes()
    server.commits[FIRST] = {"model.safetensors": weights(tmp_path), "pickle.safetensors": pickle}
    with pytest.raises(UserError, match=message) as error:
        load_generator(source)
    assert TOKEN not in str(error.value)


def test_a_file_with_another_hash_is_refused(server: Server, tmp_path: Path) -> None:
    server.commits[FIRST] = {"model.safetensors": weights(tmp_path)}
    server.stated_sha256 = "a" * 64
    with pytest.raises(UserError, match="damaged, its SHA-256 is not aaa"):
        find_in_hub("hf://me/cam")


def test_a_missing_library_and_login(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="push_to=cam: expected OWNER/NAME"):
        check_upload("cam")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UserError, match="push_to=me/cam: the login fails") as error:
        check_upload("me/cam")
    assert "hf_other" not in str(error.value)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="needs a login: run `hf auth login` or set HF_TOKEN"):
        check_upload("me/cam")
    assert server.created is None
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf://me/cam: needs .*pip install 'realsr\[hub\]'"):
        find_in_hub("hf://me/cam")


@pytest.mark.slow
def test_commands_read_models_from_the_server(server: Server, tmp_path: Path) -> None:
    """As a user runs them: HF_ENDPOINT names the server, and the name stands in a command line."""
    server.commits[FIRST] = {"model.safetensors": weights(tmp_path)}
    (tmp_path / "hr").mkdir()
    write_uint8(tmp_path / "hr/a.png", torch.randint(255, (16, 16, 3), dtype=torch.uint8).numpy())
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(realsr.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    for arguments in (
        ["upscale", "hr/a.png", "output=big.png", f"weights=hf://me/cam@{FIRST}"],
        ["evaluate", "weights=[bicubic,hf://me/cam]", "data.hr=hr", "scale=2", "output=scores"],
    ):
        command = [sys.executable, "-m", "realsr", *arguments]
        outcome = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert outcome.returncode == 0, outcome.stderr[-2000:]
        assert TOKEN not in outcome.stdout + outcome.stderr
    assert (tmp_path / "big.png").is_file()
    models = json.loads((tmp_path / "scores/metrics.json").read_text())["models"]
    assert set(models) == {"bicubic", "hf://me/cam"}
