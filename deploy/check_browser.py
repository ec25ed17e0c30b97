"""Prove that a headless Chromium opens a page here; install one where that is allowed, else name how.

`make test` looks at the status page with it, through Playwright. Any Chromium of the system will do; Playwright's
own build is tried where the system has none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from system_packages import Need, ensure

from policy.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APT = "apt-get install -y --no-install-recommends chromium"
_OWN = f"{sys.executable} -m playwright install --only-shell chromium"


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium: the system's, or Playwright's own where the system has none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return playwright.chromium.launch(executable_path=found)


def open_page() -> None:
    """Open a page that runs a script.

    Raises:
        Exception: whatever Playwright raises without a browser that works.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto("data:text/html,<script>document.title = 6 * 7</script>")
        if page.title() != "42":
            raise RuntimeError("the browser runs no scripts")
        browser.close()


def opens() -> str | None:
    """None when a process of its own opens a page, else the first thing that it said of why not."""
    command = [sys.executable, __file__, "--open"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if "Error" in line]
    return said[-1][:200] if said else f"the browser ended with code {done.returncode}"


def need() -> Need:
    """What `make test` asks of this machine."""
    own = f"{_OWN} --with-deps" if os.geteuid() == 0 else _OWN
    return Need("headless browser", opens, (_APT, own))


def main(argv: list[str]) -> int:
    """0 when a page can be opened, 2 when not."""
    try:
        if argv == ["--open"]:
            open_page()
        else:
            ensure(need())
    except UsageError as error:
        print(f"check_browser: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
