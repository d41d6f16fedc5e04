"""A person with a browser: starts a run from the form, watches, switches the regime, stops."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from fave.processes import OwnedProcess, free_port, wait_until
from fave.settings import ROOT

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium here; as root: apt-get install chromium chromium-driver"
    ),
]

NAME = "stage-object-detector"
_OPTIONS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
# Pictures of what was seen, for whoever wants to look.
PICTURES = os.environ.get("FAVE_SCREENSHOTS", "")


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*_OPTIONS.split(), "--window-size=1300,1400", f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def url(platform, child_environment, tmp_path):
    """`make ui`'s Locust on the platform under test, with the real stage."""
    port = free_port()
    command = [sys.executable, "-m", "experiments", "ui", "--target", NAME, "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with OwnedProcess("ui", command, log=tmp_path / "ui.log", env=child_environment, cwd=ROOT) as process:
        process.wait_ready(lambda: f"Locust web UI: {address}" in (tmp_path / "ui.log").read_text(), timeout_s=120)
        yield address
    platform.gateway.delete(NAME)


def picture(browser, name):
    if PICTURES:
        browser.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


def seen(browser, selector, text=None):
    """The elements that match and are shown, with `text` in them where it is given."""
    try:
        found = [e for e in browser.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]
        return [e for e in found if text is None or text.lower() in e.text.lower()]
    except WebDriverException:
        return []  # redrawn while we looked


def click(browser, selector, text):
    assert wait_until(lambda: seen(browser, selector, text), timeout_s=30), f"no {text!r}"
    element = seen(browser, selector, text)[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def fill(browser, name, value):
    field = browser.find_element(By.NAME, name)
    if field.tag_name == "select":
        Select(field).select_by_value(value)
        return
    # React keeps its own copy: type, as a person does.
    field.send_keys("\ue009a\ue000", value)


def ink(browser):
    """How many pixels of each chart are drawn in its first line's colour: a chart that moves has more of them."""
    return browser.execute_script(
        """return [...document.querySelectorAll("#charts canvas")].map((canvas) => {
             const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
             let n = 0;
             for (let i = 0; i < data.length; i += 4)
               if (data[i + 3] > 0 && data[i + 2] - data[i] > 60) n += 1;
             return n; });"""
    )


def test_a_run_from_the_form_is_watched_switched_and_stopped(browser, url, platform):
    browser.get(url)
    # Before the first run there are no tabs: a button shows the page, and replicas are on it already.
    click(browser, "#fave-open", "FAVE live")
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe[title=FAVE]"))
    assert wait_until(lambda: seen(browser, "#replicas figcaption", NAME), timeout_s=30)
    assert wait_until(lambda: seen(browser, "#status", "no run yet"), timeout_s=30)
    picture(browser, "1-before")
    browser.switch_to.default_content()
    click(browser, "#fave-open", "Back")

    assert wait_until(lambda: seen(browser, "[name=rate]"), timeout_s=30), "the parameters are not unfolded"
    assert not seen(browser, "[name=userCount]"), "users have no meaning for a schedule"
    offered = {e.get_attribute("name") for e in browser.find_elements(By.CSS_SELECTOR, "form [name]")}
    assert {"load", "rate", "regime", "target", "variables", "duration"} <= offered
    fill(browser, "load", "paced")
    fill(browser, "rate", "4")
    fill(browser, "duration", "120s")
    fill(browser, "regime", "cold")
    picture(browser, "2-form")
    click(browser, "form button[type=submit]", "start")

    click(browser, "[role=tab]", "FAVE")
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe[title=FAVE]"))
    assert wait_until(lambda: seen(browser, "#stages tbody tr", NAME), timeout_s=30)
    before = ink(browser)
    assert wait_until(lambda: sum(ink(browser)) > sum(before) + 100, timeout_s=30), "the charts do not move"

    assert platform.gateway.function(NAME).labels["com.openfaas.scale.zero"] == "true"
    click(browser, "[data-regime]", "burst-ready")
    assert wait_until(lambda: seen(browser, "#changes tbody tr", "hand"), timeout_s=30)
    assert f"{NAME} 2" in seen(browser, "#changes tbody tr", "hand")[0].text
    assert wait_until(lambda: seen(browser, "[data-regime][aria-pressed=true]", "burst-ready"), timeout_s=30)
    assert platform.counts(NAME) == (2, 2)
    phases = requests.get(f"{url}/fave/snapshot", timeout=30).json()["phases"]
    assert [phase["regime"] for phase in phases] == ["cold", "burst-ready"]
    picture(browser, "3-switched")
    browser.switch_to.default_content()

    click(browser, "[role=tab]", "Statistics")
    assert wait_until(lambda: seen(browser, "#fave-note", "from the scheduled arrival"), timeout_s=30)
    picture(browser, "4-statistics")
    click(browser, "button", "stop")
    click(browser, "[role=tab]", "FAVE")
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe[title=FAVE]"))
    assert wait_until(lambda: seen(browser, "#verdict", "stopped before its end"), timeout_s=30)
    assert seen(browser, "#reports a", "example")
    browser.switch_to.default_content()
    see_it_in_the_dark(browser, url)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def see_it_in_the_dark(browser, url):
    browser.execute_script("localStorage.theme = 'dark'")
    browser.get(f"{url}/?tab=fave")
    assert wait_until(lambda: seen(browser, "iframe[title=FAVE]"), timeout_s=30)
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe[title=FAVE]"))
    assert wait_until(lambda: seen(browser, "#stages tbody tr", NAME), timeout_s=30)
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    browser.switch_to.default_content()
    picture(browser, "5-dark")
