"""A run in which some requests reuse what their session has seen: vision at its own rate, the rest at every call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy.observation import Prediction
from service.feature_cache import Seen, Slot
from service.policy_set import Resident
from service.request_queue import Ticket


def predict(resident: Resident, batch: Sequence[Ticket]) -> list[tuple[Prediction, float | None]]:
    """One run for `batch`: per ticket its chunk, and the age of its features in ms where `vl_max_age_ms` was given.

    The age is the time between the arrivals of the request whose images were looked at and of this one; 0 means that
    this one's own were.
    """
    observations = [ticket.request.observation for ticket in batch]
    options = [ticket.request.options for ticket in batch]
    if not resident.policy.reuses_features or all(t.request.vl_max_age_ms is None for t in batch):
        drawn = resident.predictor.predict(observations, options)
        asked = [0.0 if ticket.request.vl_max_age_ms is not None else None for ticket in batch]
        return list(zip(drawn, asked, strict=True))

    slots = [_slot(resident, ticket) for ticket in batch]
    known = [_usable(slot, ticket) for slot, ticket in zip(slots, batch, strict=True)]
    features = [None if found is None else found[0] for found in known]
    drawn = resident.predictor.predict(observations, options, features)
    for slot, found, ticket, prediction in zip(slots, known, batch, drawn, strict=True):
        if slot is not None and found is None and prediction.features is not None:
            seen = Seen(prediction.features, ticket.request.observation.instruction, ticket.arrived)
            resident.seen.fill(slot, seen)
    ages = [
        None if ticket.request.vl_max_age_ms is None else 0.0 if found is None else found[1]
        for ticket, found in zip(batch, known, strict=True)
    ]
    return list(zip(drawn, ages, strict=True))


def _slot(resident: Resident, ticket: Ticket) -> Slot | None:
    """Where a request that asks for reuse may find features; without a session there is nothing to go by."""
    request = ticket.request
    if request.vl_max_age_ms is None or request.session is None:
        return None
    return resident.seen.slot(request.session)


def _usable(slot: Slot | None, ticket: Ticket) -> tuple[np.ndarray, float] | None:
    """(features, their age in ms) if they are young enough for the request."""
    if slot is None or slot.seen is None:
        return None
    request = ticket.request
    age_s = slot.age_s(request.observation.instruction, ticket.arrived)
    if age_s is None or request.vl_max_age_ms is None or age_s * 1e3 > request.vl_max_age_ms:
        return None
    return slot.seen.features, age_s * 1e3
