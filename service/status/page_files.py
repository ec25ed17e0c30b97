"""The page's own files, read once: nothing but these is ever served, and nothing comes from another host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".txt": "text/plain"}
# Only files of this server, no inline scripts or styles; camera images come as data: URLs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a server of another version may stand here tomorrow
}
INDEX = "index.html"


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    media_type: str


def read_page_files() -> Mapping[str, PageFile]:
    """By name; a name is all that a path may hold, so no path leads out of the directory."""
    directory = Path(__file__).parent / "page"
    return {
        path.name: PageFile(path.read_bytes(), _MEDIA_TYPES[path.suffix])
        for path in sorted(directory.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }
