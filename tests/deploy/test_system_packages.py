"""What the system lacks is installed where that is allowed, else named in one line with what helps."""

from __future__ import annotations

import pytest

from deploy.check_browser import need as browser_need
from deploy.check_browser import opens
from deploy.system_packages import Need, ensure
from policy.errors import UsageError

LINES = ("apt-get install -y one", "two --install")


def need(*complaints: str | None) -> Need:
    """A need that complains so, one after the other."""
    waiting = list(complaints)
    return Need("thing", lambda: waiting.pop(0), LINES, " (hint)")


def test_nothing_is_installed_where_it_works() -> None:
    ensure(need(None), allowed=lambda line: True, install=lambda line: pytest.fail(line))


def test_lines_are_tried_in_order_until_it_works() -> None:
    ran: list[str] = []
    ensure(need("broken", None), allowed=lambda line: True, install=ran.append)
    assert ran == [LINES[0]]
    ensure(need("broken", "still", None), allowed=lambda line: True, install=ran.append)
    assert ran == [LINES[0], *LINES]


def test_a_line_that_may_not_be_run_is_left_out() -> None:
    ran: list[str] = []
    ensure(need("broken", None), allowed=lambda line: line == LINES[1], install=ran.append)
    assert ran == [LINES[1]]


@pytest.mark.parametrize("allowed", [True, False])
def test_one_line_names_what_to_install_when_nothing_helps(allowed: bool) -> None:
    with pytest.raises(UsageError) as refusal:
        ensure(need(*["no driver"] * 3), allowed=lambda line: allowed, install=lambda line: None)
    told = str(refusal.value)
    assert all(line in told for line in LINES)
    assert "no driver (hint)" in told
    assert "as root: apt-get" in told
    assert "\n" not in told


def test_a_browser_opens_a_page_here() -> None:
    said = opens()
    assert said is None, f"{said}; run: make test, or one of {browser_need().install_lines}"


def test_without_a_browser_the_complaint_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", "/nonexistent")
    said = opens()
    assert said
    assert "\n" not in said
