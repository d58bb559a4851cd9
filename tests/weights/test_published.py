import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_ncnn import write_ncnn
from torch import nn

from realsr.core.errors import UserError
from realsr.weights import load_generator, sources
from realsr.weights.sources import find_weights

MakeNetwork = Callable[..., nn.Module]


NAMES = list(sources.MODELS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; no package is installed."""
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_find_in_package", lambda name, file: None)
    return tmp_path / "cache"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def files(
    name: str, tmp_path: Path, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """The two files of a tiny network under the names of a published model, by name."""
    (source := tmp_path / "source").mkdir()
    write_ncnn(source, make_network().state_dict(), half=True)
    contents = {
        file: (source / f"x4{Path(file).suffix}").read_bytes()
        for file in sources.MODELS[name].hashes
    }
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
    monkeypatch.setitem(sources.MODELS, name, replace(sources.MODELS[name], hashes=hashes))
    return contents


@pytest.fixture
def archive(cache: Path, name: str, files: dict[str, bytes]) -> Path:
    """The model's archive with a tiny network in it, at its place in the cache."""
    return pack(cache / sources.MODELS[name].archive, name, files)


def pack(path: Path, model: str, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    folder = sources.MODELS[model].archive_folder
    members = {f"{folder}/{file}": data for file, data in files.items()}
    members |= {f"{folder}/../../outside": b"x", "setup.py": b"raise SystemExit"}
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in members.items():
                wheel.writestr(member, data)
        return path
    with tarfile.open(path, "w:gz") as content:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            content.addfile(info, io.BytesIO(data))
    return path


def test_the_archive_in_the_cache_is_the_model(
    archive: Path, name: str, files: dict[str, bytes], same_output, make_network: MakeNetwork
) -> None:
    path = find_weights(name)
    assert path == archive.parent / sources.MODELS[name].cache_name / list(files)[1]
    assert {file.name for file in path.parent.iterdir()} == set(files), "these and nothing else"
    assert {file.name for file in archive.parent.iterdir()} == {path.parent.name, archive.name}
    network = make_network()
    halves = {n: v.half().float() if v.ndim == 4 else v for n, v in network.state_dict().items()}
    network.load_state_dict(halves)
    assert same_output(load_generator(name)[0], network)
    archive.unlink()
    assert find_weights(name) == path, "the archive is no longer needed"


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_half_an_archive_is_told(kept: int, archive: Path, name: str) -> None:
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"damaged, or not .*: delete it and fetch it again"):
        find_weights(name)
    assert not sources.MODELS[name].param.parent.exists()


@pytest.mark.parametrize("suffix", [".bin", ".param"])
@pytest.mark.parametrize("change", [lambda data: data[::-1], lambda data: data + b" ", None])
def test_an_archive_of_other_files_is_told(
    change: Callable[[bytes], bytes] | None,
    suffix: str,
    archive: Path,
    name: str,
    files: dict[str, bytes],
) -> None:
    changed = next(file for file in files if file.endswith(suffix))
    data = files.pop(changed)
    pack(archive, name, {**files, changed: change(data)} if change else files)
    with pytest.raises(UserError, match=rf"damaged, or not .*{changed}"):
        find_weights(name)
    assert not sources.MODELS[name].param.parent.exists()


def test_a_missing_model_is_told_with_the_command(name: str) -> None:
    extra = r" or pip install 'realsr\[models\]'" if name != "df2k_jpeg" else ""
    command = rf"run python -m realsr\.fetch what=\[{name}\]{extra}, then repeat"
    with pytest.raises(UserError, match=rf"{name}: this model \(\d+ MB\) is missing: {command}"):
        find_weights(name)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REALSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert sources.cache_folder() == Path("/somewhere/realsr")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_folder() == Path.home() / ".cache" / "realsr"


def test_an_installed_package_goes_before_the_cache(
    archive: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sources, "_find_in_package", lambda package, file: tmp_path / "installed" / file
    )
    assert find_weights(name).is_relative_to(archive.parent), "an installation without models"
    file = tmp_path / "installed" / sources.MODELS[name].installed
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_weights(name) == file
