"""`archdsl watch`, as a process: files that are renewed, and the page in a real browser."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archdsl import cli
from archdsl.watching.following import Follower
from tests.helpers import ROOT, net_text

try:
    from playwright.sync_api import Page, expect, sync_playwright
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("playwright is not installed", allow_module_level=True)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium on PATH"
)

UNITS = """
block unit(width) {
    residual { conv1: conv(width, 3) -> relu -> conv2: conv(width, 3) }
    relu
}
"""
NET = net_text(
    "stem: conv(8, 3)\n    first: unit(8)\n    conv(8, 1)\n    second: unit(8)", "image[3, H = 32, W = 32]", UNITS
)
MORE = NET.replace("second: unit(8)", "second: unit(8)\n    third: conv(8, 5)")
WRONG = NET.replace("second: unit(8)", "second: unit(9)")


class Watch:
    """A running `archdsl watch`, whose output is read line by line."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "archdsl", "watch", *arguments]
        self.log = (folder / "log.txt").open("w+")
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=self.log, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return Path(self.log.name).read_text("utf-8")

    def until(self, pattern: str, count: int = 1) -> list[str]:
        """Waits until the output has so many matches; returns them."""
        within(40, lambda: len(re.findall(pattern, self.said())) >= count, self.said)
        return re.findall(pattern, self.said())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        self.log.close()
        return status


def within(seconds: float, reached: Callable[[], bool], why: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    running: list[Watch] = []
    (tmp_path / "net.arch").write_text(NET)

    def start(*arguments: str) -> Watch:
        running.append(Watch(tmp_path, *arguments))
        return running[-1]

    yield start
    for watch in running:
        if watch.process.poll() is None:
            watch.process.kill()
            watch.process.wait()


def test_a_picture_is_renewed(watching: Callable[..., Watch], tmp_path: Path) -> None:
    net, picture = tmp_path / "net.arch", tmp_path / "net.svg"
    net.write_text(NET.replace(UNITS, "from units import unit\n"))
    (tmp_path / "units.arch").write_text(UNITS)
    watch = watching("net.arch", "-o", "net.svg")
    watch.until("net.svg written")
    assert picture.read_text().count("third") == 0
    other = tmp_path / "other.tmp"  # as editors save: a new file, then a new name
    other.write_text(net.read_text().replace("second: unit(8)", "second: unit(8)\n    third: conv(8, 3)"))
    other.rename(net)
    watch.until("net.svg written", 2)
    kept = picture.read_bytes()
    (tmp_path / "units.arch").write_text(UNITS.replace("conv2: conv(width", "conv2: conv(width + 1"))
    watch.until("1 error; nothing is written")
    assert "E0301" in watch.said() and picture.read_bytes() == kept
    (tmp_path / "units.arch").write_text(UNITS)
    watch.until("net.svg written", 3)
    assert watch.stop() == 0 and "Traceback" not in watch.said()


def test_what_cannot_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.arch").write_text(NET)
    monkeypatch.chdir(tmp_path)
    for arguments, status in (
        (["nosuch"], 1),
        (["net.arch", "--page", "-o", "net.svg"], 2),
        (["net.arch", "-o", "x.txt"], 2),
    ):
        assert cli.run(["watch", *arguments]) == status


def test_a_change_while_a_round_runs_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_text(NET)

    def make() -> tuple[bytes, tuple[()]]:
        path.write_text(MORE)
        os.utime(path, (1, 1))
        return b"", ()

    follower = Follower(path, lambda: None, make)
    follower.round()
    assert follower.is_stale()


def asked(address: str, path: str, **headers: str) -> int:
    """The status of a request."""
    host, _, port = address.removeprefix("http://").partition("/")[0].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse().status


@needs_browser
def test_the_page_follows_the_file(watching: Callable[..., Watch], tmp_path: Path) -> None:
    net = tmp_path / "net.arch"
    watch = watching("net.arch", "--page")
    (address,) = watch.until(r"(http://127\.0\.0\.1:\d+/[\w-]{20,}/) ")
    path = "/" + address.split("/", 3)[3]
    own = address.split("/")[2]
    port = own.split(":")[1]
    assert asked(address, path) == 200 and asked(address, path, Origin=f"http://{own}") == 200
    assert asked(address, "/") == asked(address, "/x" + path) == 404
    assert asked(address, path, Host=f"evil.example:{port}") == asked(address, path, Host=f"localhost:{port}") == 403
    assert asked(address, path, Origin="http://evil.example") == asked(address, path, Origin="null") == 403
    assert asked(address, path + "events", Sec_Fetch_Site="cross-site") == 403
    with sync_playwright() as playwright:
        assert CHROMIUM
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 800})
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("request", lambda r: None if r.url.startswith(address) else trouble.append(r.url))
        page.goto(address)
        check_page(page, net)
        browser.close()
    assert [text for text in trouble if "favicon" not in text] == []
    assert watch.stop() == 0 and "Traceback" not in watch.said()


def check_page(page: Page, net: Path) -> None:
    """What the reader has opened, chosen, sought and moved stays; errors stand above."""
    shown = page.locator("html[data-shown='{}']".replace("{}", "1"))
    expect(shown).to_have_count(1, timeout=30_000)
    frame = page.frame_locator("iframe:not(.coming)")
    frame.locator("#depth").select_option("0")
    frame.locator("[data-path=second]").first.click()
    expect(frame.locator("[data-path='second.conv1']")).to_have_count(1)
    frame.locator("#colour").select_option("macs")
    frame.locator("#search").fill("conv2")
    frame.locator("#zoom-in").click()
    before = frame.locator("#svg > g").get_attribute("transform")
    net.write_text(MORE)
    expect(page.locator("html[data-shown='2']")).to_have_count(1, timeout=30_000)
    frame = page.frame_locator("iframe:not(.coming)")
    expect(frame.locator("[data-path=third]")).not_to_have_count(0)
    expect(frame.locator("[data-path='second.conv1']")).to_have_count(1)
    expect(frame.locator("[data-path='first.conv1']")).to_have_count(0)
    expect(frame.locator("#colour")).to_have_value("macs")
    expect(frame.locator("#search")).to_have_value("conv2")
    assert frame.locator("#svg > g").get_attribute("transform") == before
    assert frame.locator("[aria-selected=true][data-path=second]").count() == 1
    net.write_text(WRONG)
    expect(page.locator("#trouble")).to_contain_text("error[E0301]", timeout=30_000)
    expect(frame.locator("[data-path=third]")).not_to_have_count(0)
    if pictures := os.environ.get("ARCHDSL_PICTURES"):
        page.screenshot(path=Path(pictures) / "watch.png")
    net.write_text(NET)
    expect(page.locator("html[data-shown='3']")).to_have_count(1, timeout=30_000)
    expect(page.locator("#trouble")).to_be_hidden()
