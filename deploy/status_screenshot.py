"""Take a picture of a server's status page: python deploy/status_screenshot.py --out page.png

docs/images/status.png was made so, with `make serve` and two realtime receivers running.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

from check_browser import launch
from PIL import Image


def main(argv: list[str]) -> int:
    """Wait for the first session and for some history, and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=1180, help="390 is a phone's")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how long to look before the picture is taken"
    )
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args(argv)

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(
            viewport={"width": asked.width, "height": 900}, color_scheme="dark" if asked.dark else "light"
        )
        page.goto(asked.server)
        token = os.environ.get("TINYVLA_TOKEN")
        if token:
            page.fill("#token", token)
            page.click("#gate button")
        page.wait_for_selector(".session img", timeout=120_000)
        page.wait_for_timeout(asked.seconds * 1e3)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    # A page has few colours: a palette makes the file a third as large.
    picture.convert("RGB").quantize(176, dither=Image.Dither.NONE).save(asked.out, optimize=True)
    print(f"{asked.out}: {picture.width} x {picture.height}, {asked.out.stat().st_size // 1024} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
