"""A pool that runs jobs at once: for tests of what is done with them."""

from __future__ import annotations

from concurrent.futures import Executor, Future


class Inline(Executor):
    """Runs jobs where they are submitted."""

    size = 1

    def __init__(self, *args, **kwargs) -> None:
        pass

    def submit(self, function, *args, **kwargs) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
