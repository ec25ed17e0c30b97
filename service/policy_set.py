"""Which policies are loaded and which of them a request means: plain data, replaced as a whole on every change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from policy.errors import TinyVLAError
from policy.predictor import Predictor
from policy.spec import PolicySpec
from service.feature_cache import FeatureCache
from service.wire.values import malformed, shown

_SHORTEST_HASH = 12  # characters, as labels carry


@dataclass(frozen=True)
class ServedPolicy:
    """What the doors may know of a loaded policy; the runtime itself stays with the engine."""

    spec: PolicySpec
    label: str  # name@first-12-of-hash
    runtime: str
    device: str
    why: str = ""  # the reason for this runtime and device
    reuses_features: bool = False  # requests may ask for `vl_max_age_ms`
    source: str | None = None  # the directory it was loaded from

    @classmethod
    def of(cls, predictor: Predictor, source: str | None = None) -> ServedPolicy:
        """A predictor, described."""
        return cls(
            spec=predictor.spec,
            label=predictor.spec.label,
            runtime=predictor.runtime,
            device=predictor.device,
            why=predictor.why,
            reuses_features=predictor.reuses_features,
            source=source,
        )

    @cached_property
    def hash(self) -> str:
        """Of the whole contract; computed once, as that takes longer than all else that is checked of a request."""
        return self.spec.hash

    def check_expected(self, expects: str | None) -> None:
        """Raise `contract_mismatch` unless `expects` is this policy's hash or the start of it; `malformed` if short."""
        if expects is None:
            return
        if len(expects) < _SHORTEST_HASH:
            wanted = f"a policy's hash, or its first {_SHORTEST_HASH} characters or more"
            raise malformed("expects", wanted, shown(expects))
        if not self.hash.startswith(expects.lower()):
            raise TinyVLAError(
                "contract_mismatch",
                f"the client expects a policy with hash {expects[:64]!r}, but {self.label} is served here; fetch "
                f"/policies/{self.label} and adapt to it, or name the policy you mean",
                field="expects",
                expected=expects[:64],
                actual=self.hash,
            )


@dataclass(frozen=True, eq=False)
class Resident:
    """A policy in memory: its description, what runs it, and what its sessions have seen."""

    policy: ServedPolicy
    predictor: Predictor
    seen: FeatureCache = field(default_factory=FeatureCache)


@dataclass(frozen=True)
class PolicySet:
    """Every loaded policy, oldest first, and the one that answers requests which name none."""

    residents: tuple[Resident, ...] = ()
    active: Resident | None = None

    def named(self, name: str | None) -> Resident:
        """The policy a request means: by label, or by name, of which the active one is preferred, then the newest.

        Raises:
            TinyVLAError: `not_ready` when nothing is active yet, `unknown_policy` for a name that is not loaded.
        """
        if self.active is None:
            raise TinyVLAError("not_ready", "no policy is loaded yet; /readyz tells when the server is ready")
        if name is None:
            return self.active
        for resident in (self.active, *reversed(self.residents)):
            if name in (resident.policy.label, resident.policy.spec.name):
                return resident
        known = " or ".join(f"{r.policy.spec.name} ({r.policy.label})" for r in self.residents)
        raise TinyVLAError(
            "unknown_policy",
            f"no policy {name!r} is loaded",
            field="policy",
            expected=known,
            actual=name,
        )

    def one(self, name: str) -> Resident:
        """As `named`, but refuses a name that several loaded policies have: changes must not guess."""
        alike = [r.policy.label for r in self.residents if r.policy.spec.name == name]
        if len(alike) > 1:
            raise TinyVLAError(
                "unknown_policy",
                f"{len(alike)} policies are named {name!r}; say which",
                field="policy",
                expected=" or ".join(alike),
                actual=name,
            )
        return self.named(name)

    def with_policy(self, resident: Resident, *, activate: bool) -> PolicySet:
        """With one more; the first one becomes active whatever is asked."""
        active = resident if activate or self.active is None else self.active
        return PolicySet((*self.residents, resident), active)

    def activated(self, resident: Resident) -> PolicySet:
        """With another active one."""
        return replace(self, active=resident)

    def without(self, resident: Resident) -> PolicySet:
        """With one less; raises `forbidden` for the active one, which would leave nobody to answer."""
        if resident is self.active:
            raise TinyVLAError(
                "forbidden", f"{resident.policy.label} is the active policy; activate another one first"
            )
        return replace(self, residents=tuple(other for other in self.residents if other is not resident))
