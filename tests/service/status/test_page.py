"""The status page as a person meets it, in headless Chromium: desktop and phone, light and dark."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as BrowserError

from clients.client_options import ClientOptions
from clients.zmq import ZmqClient
from deploy.check_browser import launch, need
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from service.running import RunningServer
from service.wire.messages import ActRequest

pytestmark = pytest.mark.slow
PATIENCE_MS = 60_000.0
TOKEN = "s3cret"
TRICK = '<img src=x onerror="document.title=1">'
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Robots:
    """Three sessions that ask now and then, one of which also asks for a policy that is not there."""

    def __init__(self, server: RunningServer) -> None:
        self._stop = threading.Event()
        self._client = ZmqClient(server.zmq_url, TOKEN, ClientOptions(timeout_s=30))
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        count = 0
        while not self._stop.wait(0.1):
            count += 1
            image[..., 0] = count % 256
            seen = Observation(
                {"corner4": image.copy(), "wrist": image.copy()}, np.zeros(4, np.float32), "go"
            )
            for session in ("left", "right", TRICK):
                self._client.act(ActRequest(seen, session=session, seq=count))
            try:
                self._client.act(ActRequest(seen, policy="other"))
            except TinyVLAError:
                continue

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    spec = null_spec(cameras=("corner4", "wrist"), size=32)
    with RunningServer(lambda: NullPolicy(spec), token=TOKEN) as running:
        robots = Robots(running)
        yield running
        robots.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            launched = launch(playwright)
        except BrowserError as error:
            pytest.fail(
                f"no headless Chromium ({error.message:.100}); run make test, or {need().install_lines}"
            )
        yield launched
        launched.close()


class Visit:
    """A page, what it asked for, and what it complained of."""

    def __init__(self, browser: Browser, server: RunningServer, **options: object) -> None:
        self.page: Page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
        self.page.set_default_timeout(PATIENCE_MS)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type == "error" else None
        )
        self.page.goto(f"{server.http_url}/")

    def unlock(self) -> Page:
        """Give the token and wait for the sessions."""
        self.page.fill("#token", TOKEN)
        self.page.click("#gate button")
        expect(self.page.locator(".session")).to_have_count(3, timeout=PATIENCE_MS)
        return self.page


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"]
)
def test_it_shows_robots_charts_and_policies_at_any_width(
    browser: Browser, server: RunningServer, viewport: dict[str, int], scheme: str
) -> None:
    visit = Visit(browser, server, viewport=viewport, color_scheme=scheme)
    page = visit.unlock()
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator(".policy h3")).to_contain_text("null")
    expect(page.locator("#latency canvas")).to_be_visible()
    expect(page.locator("#errors")).to_contain_text("unknown_policy", timeout=PATIENCE_MS)
    card = page.locator(".session", has_text="left")
    expect(card.locator("canvas")).to_be_visible()
    assert card.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    expect(page.locator("#tiles")).to_contain_text("replies per second")
    expect(page.locator("#tiles b").first).to_have_text(re.compile("[1-9]"), timeout=PATIENCE_MS)

    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground.strip("rgb()").split(",")) / 3
    assert (brightness > 128) == (scheme == "light")
    # The first look is refused for want of a token; a browser reports that by itself.
    assert [said for said in visit.complaints if "401" not in said] == []
    assert {url.startswith((server.http_url, "data:")) for url in visit.asked} == {True}


def test_what_a_robot_calls_itself_is_text(browser: Browser, server: RunningServer) -> None:
    page = Visit(browser, server).unlock()
    expect(page.locator(".session h3", has_text="onerror")).to_have_text(TRICK)
    assert page.title() == "TinyVLA"


def test_a_new_frame_takes_the_place_of_the_old_one(browser: Browser, server: RunningServer) -> None:
    page = Visit(browser, server).unlock()
    picture = page.locator(".session img").first
    first = picture.get_attribute("src")
    assert first is not None
    expect(picture).not_to_have_attribute("src", first, timeout=PATIENCE_MS)


def test_an_episode_that_is_over_shrinks_to_a_line(browser: Browser) -> None:
    spec = null_spec(cameras=("corner4",), size=32)
    with RunningServer(lambda: NullPolicy(spec)) as server, closing(ZmqClient(server.zmq_url)) as client:
        page = Visit(browser, server).page
        expect(page.locator("#state")).to_have_text("ready")  # from here on somebody looks
        seen = Observation({"corner4": np.zeros((32, 32, 3), np.uint8)}, np.zeros(4, np.float32))
        client.act(ActRequest(seen, session="episode"))
        card = page.locator(".session", has_text="episode")
        expect(card).to_contain_text("silent for", timeout=PATIENCE_MS)
        expect(card.locator("img")).to_be_hidden()
        client.act(ActRequest(seen, session="episode"))
        expect(card.locator("img")).to_be_visible()
        expect(card.locator("canvas")).to_be_visible()
        expect(card).not_to_contain_text("silent")


def test_a_wrong_token_is_told_and_asked_for_again(browser: Browser, server: RunningServer) -> None:
    visit = Visit(browser, server)
    visit.page.fill("#token", "wrong")
    visit.page.click("#gate button")
    expect(visit.page.locator("#refused")).to_contain_text("not this server's token", timeout=PATIENCE_MS)
    assert visit.page.evaluate("sessionStorage.length") == 0
    visit.unlock()
    assert TOKEN not in visit.page.url


def test_a_server_that_goes_away_is_told(browser: Browser) -> None:
    with RunningServer(lambda: NullPolicy(null_spec(size=16))) as passing:
        visit = Visit(browser, passing)
        expect(visit.page.locator("#state")).to_have_text("ready", timeout=PATIENCE_MS)
        assert visit.page.locator("#gate").is_hidden()  # an open server asks for no token
    expect(visit.page.locator("#state")).to_contain_text("no answer", timeout=PATIENCE_MS)


def test_an_answer_that_breaks_off_is_told_and_asked_for_again(browser: Browser) -> None:
    with RunningServer(lambda: NullPolicy(null_spec(size=16))) as server:
        visit = Visit(browser, server)
        state = visit.page.locator("#state")
        expect(state).to_have_text("ready", timeout=PATIENCE_MS)
        visit.page.route("**/status", lambda route: route.fulfill(body='{"ready": tr'))
        expect(state).to_contain_text("no answer", timeout=PATIENCE_MS)
        visit.page.unroute("**/status")
        expect(state).to_have_text("ready", timeout=PATIENCE_MS)
    assert visit.complaints == []
