"""MetaWorld's 50 tasks: difficulty groups as the literature has them, and an instruction for each."""

from __future__ import annotations

from collections.abc import Iterable

from policy.errors import UsageError

# Groups of Seo et al., "Masked World Models for Visual Control" (2022), used by the field since.
DIFFICULTY: dict[str, tuple[str, ...]] = {
    "easy": (
        "button-press", "button-press-topdown", "button-press-topdown-wall", "button-press-wall",
        "coffee-button", "dial-turn", "door-close", "door-lock", "door-open", "door-unlock", "drawer-close",
        "drawer-open", "faucet-close", "faucet-open", "handle-press", "handle-press-side", "handle-pull",
        "handle-pull-side", "lever-pull", "plate-slide", "plate-slide-back", "plate-slide-back-side",
        "plate-slide-side", "reach", "reach-wall", "window-close", "window-open", "peg-unplug-side",
    ),
    "medium": (
        "basketball", "bin-picking", "box-close", "coffee-pull", "coffee-push", "hammer", "peg-insert-side",
        "push-wall", "soccer", "sweep", "sweep-into",
    ),
    "hard": ("assembly", "hand-insert", "pick-out-of-hole", "pick-place", "push", "push-back"),
    "very hard": ("shelf-place", "disassemble", "stick-pull", "stick-push", "pick-place-wall"),
}  # fmt: skip

# The eight tasks of the policy shipped with the repository.
BUNDLED_TASKS: tuple[str, ...] = (
    "pick-place", "peg-insert-side", "drawer-open", "drawer-close", "button-press-topdown", "door-open",
    "reach", "button-press",
)  # fmt: skip

_INSTRUCTIONS: dict[str, str] = {
    "assembly": "pick up the ring and put it over the peg",
    "basketball": "put the basketball through the hoop",
    "bin-picking": "move the block from one bin to the other",
    "box-close": "put the lid on the box",
    "button-press": "push the button into the wall",
    "button-press-topdown": "press the button down from above",
    "button-press-topdown-wall": "go over the wall and press the button down from above",
    "button-press-wall": "go past the wall and push the button",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn the dial",
    "disassemble": "lift the ring off the peg",
    "door-close": "close the door",
    "door-lock": "lock the door",
    "door-open": "open the door",
    "door-unlock": "unlock the door",
    "drawer-close": "close the drawer",
    "drawer-open": "open the drawer",
    "faucet-close": "turn the faucet clockwise",
    "faucet-open": "turn the faucet counterclockwise",
    "hammer": "drive the nail in with the hammer",
    "hand-insert": "move the puck with the hand into the hole",
    "handle-press": "press the handle down",
    "handle-press-side": "press the handle down from the side",
    "handle-pull": "pull the handle up",
    "handle-pull-side": "pull the handle up from the side",
    "lever-pull": "pull the lever up",
    "peg-insert-side": "pick up the green peg and insert it into the hole in the box",
    "peg-unplug-side": "pull the peg out of the hole",
    "pick-out-of-hole": "lift the puck out of the hole",
    "pick-place": "pick up the puck and bring it to the goal",
    "pick-place-wall": "pick up the puck and bring it over the wall to the goal",
    "plate-slide": "slide the plate into the cabinet",
    "plate-slide-back": "slide the plate out of the cabinet",
    "plate-slide-back-side": "slide the plate sideways out of the cabinet",
    "plate-slide-side": "slide the plate sideways into the cabinet",
    "push": "push the puck to the goal",
    "push-back": "pull the puck back to the goal",
    "push-wall": "push the puck around the wall to the goal",
    "reach": "move the hand to the goal",
    "reach-wall": "move the hand past the wall to the goal",
    "shelf-place": "put the block on the shelf",
    "soccer": "push the ball into the goal",
    "stick-pull": "pull the box with the stick",
    "stick-push": "push the box with the stick",
    "sweep": "sweep the block off the table",
    "sweep-into": "sweep the block into the hole",
    "window-close": "close the window",
    "window-open": "open the window",
}

TASKS: tuple[str, ...] = tuple(_INSTRUCTIONS)


def task_name(name: str) -> str:
    """Bring `reach`, `reach-v3` and the like to the plain name.

    Raises:
        UsageError: there is no such task; the message names the nearest ones.
    """
    import difflib

    plain = name.strip().removesuffix("-v3").removesuffix("-v2")
    if plain in _INSTRUCTIONS:
        return plain
    close = difflib.get_close_matches(plain, TASKS, n=3) or ["reach", "pick-place", "drawer-open"]
    raise UsageError(f"MetaWorld has no task {name!r}; did you mean {', '.join(close)}? (50 tasks in all)")


def instruction(task: str) -> str:
    """The text a policy is given for a task."""
    return _INSTRUCTIONS[task_name(task)]


def difficulty(task: str) -> str:
    """`easy`, `medium`, `hard` or `very hard`."""
    plain = task_name(task)
    return next(group for group, tasks in DIFFICULTY.items() if plain in tasks)


def task_names(asked: Iterable[str]) -> list[str]:
    """The tasks that were asked for, each once; items may be lists with commas, and `all` stands for the 50.

    Raises:
        UsageError: there is no such task.
    """
    names = [part for item in asked for part in item.split(",") if part]
    return list(TASKS) if names == ["all"] else list(dict.fromkeys(task_name(name) for name in names))
