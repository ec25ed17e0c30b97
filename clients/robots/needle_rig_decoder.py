"""JPEGs to pictures on a thread of its own, the newest of each camera first; the receive thread never decodes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from clients.robots.rig_wire import BadMessage, CameraFrame, decode_jpeg


class PictureDecoder:
    """Hand frames in, get pictures out through `done`; a camera's frame that waits is replaced by its next one.

    Args:
        done: told view, frame and picture on the decoder's thread.
        bad: told view and what was wrong with a frame.
        overtaken: told the view of a frame that was replaced before its turn came.
    """

    def __init__(
        self,
        done: Callable[[str, CameraFrame, np.ndarray], None],
        bad: Callable[[str, BadMessage], None],
        overtaken: Callable[[str], None],
    ) -> None:
        self._done, self._bad, self._overtaken = done, bad, overtaken
        self._waiting: dict[str, CameraFrame] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="rig-decode", daemon=True)
        self._thread.start()

    def hand_in(self, view: str, frame: CameraFrame) -> None:
        """Decode this one soon."""
        with self._changed:
            replaced = view in self._waiting
            self._waiting[view] = frame
            self._changed.notify()
        if replaced:
            self._overtaken(view)

    def close(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                view = next(iter(self._waiting))
                frame = self._waiting.pop(view)
            try:
                picture = decode_jpeg(frame.jpeg)
            except BadMessage as error:
                self._bad(view, error)
            else:
                self._done(view, frame, picture)
