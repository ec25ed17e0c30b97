"""A policy in this process: the clients' interface around a `Predictor`, with no server between."""

from __future__ import annotations

import time
from pathlib import Path

from policy.predictor import Predictor
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest, Timing


class InProcessClient:
    """See `clients.client.PolicyClient`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @classmethod
    def load(cls, bundle: Path) -> InProcessClient:
        """Load a policy bundle.

        Raises:
            UsageError: there is no bundle, or what runs it is not installed.
            TinyVLAError: the bundle fails its hashes or its golden pair.
        """
        from policy.bundle import load_bundle

        return cls(load_bundle(bundle))

    def spec(self) -> PolicySpec:
        """The policy's contract."""
        return self._predictor.spec

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out; raises `TinyVLAError` where the contract is broken."""
        began = time.monotonic()
        [drawn] = self._predictor.predict([request.observation], [request.options])
        total_ms = (time.monotonic() - began) * 1e3
        spec = self._predictor.spec
        return ActReply(
            actions=drawn.actions,
            rate_hz=spec.action.rate_hz,
            horizon=spec.horizon,
            policy=spec.label,
            ddim_steps=drawn.ddim_steps,
            sampler=drawn.sampler,
            seed=drawn.seed,
            timing_ms=Timing(0.0, 0.0, drawn.encode_ms, drawn.sample_ms, total_ms, batch=1),
            uncertainty=drawn.uncertainty,
            session=request.session,
            seq=request.seq,
            timestamp_ns=request.timestamp_ns,
        )

    def reset(self, session: str) -> None:
        """Nothing to forget: calls are answered before they return."""

    def close(self) -> None:
        """Nothing to release."""
