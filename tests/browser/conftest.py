"""A headless Chromium that draws WebGL in software and reaches nothing but this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from chromium import Browser

#: Of the page itself, without the browser's own bars.
WINDOW = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
OPTIONS = (
    "--headless=new",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # Chromium's own requests: components, lists of bad sites, the time.
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One window for all tests of the session."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (make install)")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, Selenium looks for nothing on the network.
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WINDOW)
        yield Browser(driver)
    finally:
        driver.quit()
