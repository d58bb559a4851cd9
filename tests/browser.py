"""A headless Chromium for tests of pages; a test is skipped, and says so, where there is none."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PACKAGES = "apt-get install chromium chromium-driver"


@contextmanager
def open_page(page: Path | str, width: int = 1200, dark: bool = False) -> Iterator[Any]:
    """Yield Selenium's driver with a file or an address opened, in a window of this width."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.skip(f"no Chromium with its driver: {PACKAGES}")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver_path)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        # A headless window has a minimum width, a device has none.
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(page if isinstance(page, str) else page.resolve().as_uri())
        yield driver
    finally:
        driver.quit()


def console_messages(driver: Any) -> list[str]:
    """Return the warnings and errors that a page wrote to the console."""
    return [entry["message"] for entry in driver.get_log("browser")]


def outside_requests(driver: Any, own: str = "file://") -> list[str]:
    """Return the addresses that a page requested, but for its own, which begin so, and embedded data."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert urls, "the page itself is among the requests"
    return [url for url in urls if not url.startswith((own, "data:"))]
