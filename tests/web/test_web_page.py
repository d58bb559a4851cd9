"""The page as a browser sees it: one server, started as a user starts it, for all tests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from browser import console_messages, open_page, outside_requests
from realsr import api
from realsr.core.errors import UserError
from realsr.imaging import Metadata, Photo, read_photo, write_photo, write_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.networks import build_generator
from realsr.weights import save_generator

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("uvicorn", reason="the extra app is not installed")

SOURCE = Path(api.__file__).parents[2]
SECONDS = 180  # for the server to start, and for a job


@dataclass(frozen=True)
class Page:
    """The address of the server, its temporary folder, and a folder with a run and photos."""

    address: str
    temporary: Path
    work: Path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of scale 2, a 16-bit photo with EXIF and a colour profile, and other files."""
    folder = tmp_path_factory.mktemp("work")
    config = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    (folder / "run").mkdir()
    torch.manual_seed(0)
    generator = build_generator(config, 2)
    torch.nn.init.constant_(generator.get_parameter("conv_last.bias"), 0.5)
    save_generator(folder / "run/generator.safetensors", generator, config, 2)
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[272] = "Model 1"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    samples = rng.integers(0, 65536, (60, 80, 3), np.uint16)
    metadata = Metadata(icc=profile, exif=exif.tobytes()[6:])
    for suffix in ("png", "tif"):
        write_photo(folder / f"photo.{suffix}", Photo(samples, metadata))
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:9000])
    write_uint8(folder / "large.png", np.zeros((200, 200, 3), np.uint8))
    write_uint8(folder / "heavy.png", rng.integers(0, 256, (300, 300, 3), np.uint8))
    for name in ("a", "b"):
        (folder / name).mkdir()
        for index in range(2):
            blocks = rng.integers(40, 216, (6, 6, 3)).repeat(20, 0).repeat(20, 1)
            noise = rng.normal(0, 2 if name == "a" else 8, blocks.shape)
            image = (blocks + noise).round().clip(0, 255).astype(np.uint8)
            write_uint8(folder / name / f"{index}.png", image)
    (folder / "pool/kernels").mkdir(parents=True)
    save_kernel(folder / "pool/kernels/one_kernel_x2.mat", np.full((5, 5), 1 / 25))
    return folder


@pytest.fixture(scope="module")
def page(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    temporary = tmp_path_factory.mktemp("temporary")
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(temporary),
    }
    command = [sys.executable, "-m", "realsr.app", "port=0", "weights=[run]", "device=cpu"]
    limits = ["max_megapixels=0.03", "max_megabytes=0.2", "workers=0", "regions=8"]
    process = subprocess.Popen(
        [*command, *limits],
        cwd=work,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if match := re.search(r"open (http://\S+)", line):
            break
    else:
        pytest.fail(log)
    yield Page(match[1], temporary, work)
    assert list(temporary.iterdir()), "the folder of the running server"
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == -signal.SIGINT
    process.stderr.close()
    assert not list(temporary.iterdir()), "photos and results are deleted"


@pytest.fixture(scope="module")
def driver(page: Page) -> Iterator[Any]:
    with open_page(page.address) as driver:
        wait(driver, "document.querySelector('[name=weights]').options.length > 0")
        yield driver


def wait(driver: Any, condition: str) -> None:
    end = time.monotonic() + SECONDS
    while not driver.execute_script(f"return {condition}"):
        assert time.monotonic() < end, driver.find_element("css selector", "main").text
        time.sleep(0.05)


def send(driver: Any, panel: str, **fields: str | Path | list[Path]) -> None:
    """Fill in the form of a panel, send it, and wait for its result or error."""
    driver.find_element("id", f"{panel}-tab").click()
    for name, value in fields.items():
        field = driver.find_element("css selector", f"#{panel} [name={name.replace('_', '-')}]")
        field.send_keys("\n".join(map(str, value)) if isinstance(value, list) else str(value))
    driver.find_element("css selector", f"#{panel} [type=submit]").click()
    wait(driver, f"!document.querySelector('#{panel} [type=submit]').disabled")


def error(driver: Any, panel: str) -> str:
    return str(driver.find_element("css selector", f"#{panel} [role=alert]").text)


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> bytes:
    with urlopen(Request(url, data, method=method), timeout=SECONDS) as response:
        return bytes(response.read())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_photo_is_upscaled_as_by_the_command_and_compared_at_full_size(
    page: Page, driver: Any, suffix: str, tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains

    photo = page.work / f"photo.{suffix}"
    send(driver, "upscale", photo=photo)
    assert driver.find_elements("css selector", "#upscale [role=alert]") == []
    link = driver.find_element("css selector", "[data-download]")
    assert link.get_attribute("download") == f"photo_x2.{suffix}"
    result, expected = tmp_path / f"page.{suffix}", tmp_path / f"command.{suffix}"
    result.write_bytes(fetch(link.get_attribute("href")))
    api.upscale(photo, page.work / "run", expected, device="cpu")
    content, metadata = read_photo(result), read_photo(photo).metadata
    assert content.samples.shape == (120, 160, 3)
    assert content.samples.dtype == np.uint16
    np.testing.assert_array_equal(content.samples, read_photo(expected).samples)
    assert content.metadata.icc == metadata.icc
    with Image.open(result) as image:
        assert image.getexif()[272] == "Model 1"

    slider = driver.find_element("css selector", "img-comparison-slider")
    images = slider.find_elements("css selector", "img")
    sizes = [
        [image.get_property(f"natural{side}") for side in ("Width", "Height")] for image in images
    ]
    assert sizes == [[160, 120]] * 2
    assert float(slider.get_attribute("aria-valuenow")) == 50
    ActionChains(driver).move_to_element_with_offset(
        slider, slider.rect["width"] // 4, 0
    ).click().perform()
    wait(driver, "document.querySelector('img-comparison-slider').ariaValueNow > 65")
    driver.find_element("css selector", "[value=full]").click()
    assert slider.rect["width"] == 160
    driver.find_element("css selector", "[value=fit]").click()
    assert slider.rect["width"] > 160
    assert console_messages(driver) == []


def test_pools_and_domains_are_shown(page: Page, driver: Any) -> None:
    send(driver, "pool", pool=page.work / "pool")
    frame = driver.find_element("css selector", "#pool iframe").get_attribute("src")
    assert "kernels for scale 2: 1" in fetch(frame).decode()

    photos = sorted((page.work / "b").iterdir())
    send(driver, "domains", a=page.work / "a", photos_b=photos)
    wait(driver, "document.querySelector('#domains .figure').naturalWidth > 500")
    numbers = driver.find_element("css selector", "[data-numbers]").get_attribute("href")
    facts = json.loads(fetch(numbers))
    assert facts["b"]["photos"] == ["0", "1"]
    assert facts["summary"] == driver.find_element("css selector", "[data-summary]").text
    assert console_messages(driver) == []


def test_bad_photos_and_folders_are_refused_in_one_line(page: Page, driver: Any) -> None:
    for name, reason in (
        ("broken.png", "broken.png is damaged"),
        ("large.png", "large.png has 0.04 megapixels, more than 0.03: shrink or crop it"),
        ("heavy.png", "heavy.png: the file has more than 0.2 MB"),
        ("run/generator.safetensors", "generator.safetensors is not a supported image"),
    ):
        send(driver, "upscale", photo=page.work / name)
        assert error(driver, "upscale").startswith(reason)
        assert str(page.temporary) not in error(driver, "upscale")
    send(driver, "pool", pool="/nowhere")
    assert "/nowhere: no such folder" in error(driver, "pool")


def test_a_photo_can_be_dropped(driver: Any) -> None:
    script = """
        const data = new DataTransfer();
        for (const name of ["a.png", "b.png"]) data.items.add(new File([new Uint8Array(1500)], name));
        const zone = document.querySelector("#upscale .drop");
        zone.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        return [...zone.querySelector("input").files].map((file) => file.name);
    """
    assert driver.execute_script(script) == ["a.png"]
    driver.find_element("id", "upscale-tab").click()
    assert driver.find_element("css selector", "#upscale .choice-text").text == "2 kB"


def test_results_are_deleted_when_the_page_is_closed(page: Page, driver: Any) -> None:
    send(driver, "upscale", photo=page.work / "photo.png")
    (folder,) = page.temporary.iterdir()
    assert list(folder.rglob("photo_x2.png"))
    driver.get("about:blank")
    end = time.monotonic() + SECONDS
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(folder.iterdir())


def test_nothing_outside_is_requested(page: Page, driver: Any) -> None:
    """Of all tests above."""
    assert set(outside_requests(driver, page.address)) <= {"about:blank"}


def test_sizes_are_checked_by_the_server_too(page: Page) -> None:
    job = json.loads(fetch(f"{page.address}jobs", "POST"))["job"]
    for content, reason in (
        (bytes(300_000), "more than 0.2 MB"),
        ((page.work / "large.png").read_bytes(), "more than 0.03"),
    ):
        with pytest.raises(HTTPError) as refusal:
            fetch(f"{page.address}jobs/{job}/photos/photo?name=a.png", "PUT", content)
        assert refusal.value.code == 400
        assert reason in json.loads(refusal.value.read())["error"]
    with pytest.raises(HTTPError) as refusal:
        fetch(f"{page.address}jobs/{job}/upscale", "POST", b"{}")
    assert json.loads(refusal.value.read())["error"] == "choose a photo"
    fetch(f"{page.address}jobs/{job}", "DELETE")
    assert not list(page.temporary.rglob(job))


@pytest.mark.parametrize("path", ["", "settings", "x/settings", "../settings"])
def test_only_the_printed_address_answers(page: Page, path: str) -> None:
    parts = urlsplit(page.address)
    with pytest.raises(HTTPError) as refusal:
        fetch(f"{parts.scheme}://{parts.netloc}/{path}")
    assert refusal.value.code == 404
    assert "default-src 'none'" in refusal.value.headers["content-security-policy"]


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is local on Linux only")
def test_the_server_listens_on_its_address_only(page: Page) -> None:
    port = urlsplit(page.address).port
    socket.create_connection(("127.0.0.1", port), SECONDS).close()
    with pytest.raises(ConnectionRefusedError):  # a server on 0.0.0.0 would accept it
        socket.create_connection(("127.0.0.2", port), SECONDS)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_only_loopback_addresses_are_allowed(host: str) -> None:
    with pytest.raises(UserError, match="expected a loopback address"):
        api.app(host=host)


def test_a_port_in_use_and_a_missing_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port}: cannot be used"):
            api.app(port=port)
    monkeypatch.setattr("realsr.web.work.locate_model", lambda name: None)
    with pytest.raises(UserError, match="no model is installed"):
        api.app(port=0, device="cpu")
    with pytest.raises(UserError, match="no such file"):
        api.app(port=0, device="cpu", weights=["nowhere"])


def test_without_the_extra_a_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"pip install 'realsr\[app\]'"):
        api.app(port=0)
