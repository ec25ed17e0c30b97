"""From what a peer sends, under the peer's own names, to a request that fits the policy.

What the alias table says comes first; then names that are the policy's own; then, for a policy of one camera or
one state vector, what the peer always calls it. Images that the policy does not see are left out, as the peers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy.errors import contract_mismatch
from policy.spec import PolicySpec
from service.dropin.aliases import Aliases
from service.dropin.peer_arrays import PeerArrays, as_vector, is_image
from service.wire.messages import ActRequest
from service.wire.request_map import FIELDS, read_request
from service.wire.values import as_name, shown

# Fields of ours that a peer's client may add to its own message.
OPTIONS = tuple(f for f in FIELDS if f not in ("images", "state", "sensors", "prefix", "instruction"))


@dataclass(frozen=True)
class Habits:
    """What a peer's clients call things when nobody says otherwise."""

    separator: str  # between the levels of a nested map
    cameras: tuple[str, ...]  # the picture of a policy with one camera, the likeliest first
    states: tuple[str, ...]  # the state, where it comes in one piece
    instructions: tuple[str, ...]  # keys, or with a trailing separator what keys begin with

    def tail(self, key: str) -> str:
        """The last level of a key: the peer's name without the peer's group."""
        return key.rpartition(self.separator)[2]


def policy_named(flat: Mapping[str, object]) -> str | None:
    """The policy that a peer's message asks for, which hardly any does."""
    name = flat.get("policy")
    return None if name is None else as_name(name, "policy")


def peer_request(
    flat: Mapping[str, object], spec: PolicySpec, aliases: Aliases, habits: Habits, session: str | None = None
) -> ActRequest:
    """Translate.

    Args:
        flat: the peer's map, flattened with its separator: arrays, numbers, text and lists of them.
        spec: of the policy that is asked.
        aliases: the table of the settings.
        habits: the peer's own names.
        session: whose newest observation wins; None where the peer's clients cannot be told apart.

    Raises:
        TinyVLAError: `contract_mismatch` or `malformed`, saying which alias would help.
    """
    flat = {key: value for key, value in flat.items() if value is not None}
    table = tuple(alias for alias in aliases if alias.fits(spec) and alias.key in flat)
    named = {alias.key for alias in table}
    free = {key: value for key, value in flat.items() if key not in named}
    fields: dict[str, object] = {key: free.get(key) for key in OPTIONS}
    if fields["session"] is None:
        fields["session"] = session
    fields["images"] = _images(flat, free, spec, table, habits)
    fields["state"] = _state(flat, free, spec, table, habits)
    fields["instruction"] = _instruction(flat, free, table, habits)
    fields["sensors"] = {alias.sensor: flat[alias.key] for alias in table if alias.sensor is not None}
    return read_request(fields, PeerArrays())


def _images(
    flat: Mapping[str, object], free: Mapping[str, object], spec: PolicySpec, table: Aliases, habits: Habits
) -> dict[str, object]:
    wanted = [camera.name for camera in spec.cameras]
    found = {alias.target: flat[alias.key] for alias in table if alias.target in wanted}
    images = {key: value for key, value in free.items() if is_image(value)}
    for key, image in images.items():
        name = habits.tail(key)
        if name in wanted and name not in found:
            found[name] = image
    if not found and len(wanted) == 1 and images:
        usual = [key for key in habits.cameras if key in images]
        if usual or len(images) == 1:
            found[wanted[0]] = images[usual[0] if usual else next(iter(images))]
    missing = [name for name in wanted if name not in found]
    if missing:
        came = ", ".join(map(shown, images)) or "no image"
        help_ = f"{came}; say which is which with --alias {next(iter(images), 'KEY')}={missing[0]}"
        raise contract_mismatch("images", f"cameras {wanted}", help_)
    return found


def _state(
    flat: Mapping[str, object], free: Mapping[str, object], spec: PolicySpec, table: Aliases, habits: Habits
) -> object:
    names = spec.state.names
    parts = [(alias, alias.part) for alias in table if alias.part and alias.part.vector == "state"]
    if parts:
        state, filled = np.zeros(len(names), np.float32), np.zeros(len(names), bool)
        for alias, part in parts:
            start, stop = part.bounds(len(names))
            piece = as_vector(flat[alias.key], alias.key)
            if len(piece) != stop - start:
                raise contract_mismatch(
                    alias.key, f"{stop - start} values for {alias.target}", str(len(piece))
                )
            state[start:stop], filled[start:stop] = piece, True
        if not filled.all():
            empty = ", ".join(name for name, full in zip(names, filled, strict=True) if not full)
            raise contract_mismatch("state", f"[{len(names)}] ({', '.join(names)})", f"no alias for {empty}")
        return state
    if not names:
        return np.zeros(0, np.float32)
    by_name = {habits.tail(key): key for key in free if habits.tail(key) in names}
    if len(by_name) == len(names) > 1:
        return np.concatenate([as_vector(free[by_name[name]], name) for name in names])
    usual = [key for key in habits.states if key in free]
    grouped = [
        key for key in free if any(key.startswith(prefix + habits.separator) for prefix in habits.states)
    ]
    if len(usual or grouped) == 1:
        key = (usual or grouped)[0]
        return as_vector(free[key], key)
    came = ", ".join(map(shown, usual or grouped)) or "no state"
    example = next(iter(usual or grouped), "KEY")
    raise contract_mismatch(
        "state",
        f"[{len(names)}] ({', '.join(names)})",
        f"{came}; say what goes where with --alias {example}=state[0:{len(names)}]",
    )


def _instruction(
    flat: Mapping[str, object], free: Mapping[str, object], table: Aliases, habits: Habits
) -> object:
    for alias in table:
        if alias.target == "instruction":
            return flat[alias.key]
    for habit in habits.instructions:
        for key, value in free.items():
            if key == habit or (habit.endswith(habits.separator) and key.startswith(habit)):
                return value
    return None
