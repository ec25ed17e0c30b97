"""`/policies`: what is loaded for everybody, loading, activating and unloading for the operator; `/sessions`: reset."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from policy.errors import TinyVLAError
from service.body import read_body
from service.bundle_shelf import BundleShelf
from service.engine import Engine
from service.freed_memory import give_back
from service.openapi import problems
from service.policy_loader import load_refusal
from service.policy_set import ServedPolicy
from service.wire import json_codec
from service.wire.values import MAX_TEXT, as_text, malformed, shown

_MAX_BODY = 2**16  # bytes: a path and a flag
_LOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["bundle"],
                    "properties": {
                        "bundle": {"type": "string", "description": "directory beneath --bundle-root"},
                        "activate": {"type": "boolean", "default": False},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


def policies_router(engine: Engine) -> APIRouter:
    """What is loaded, to be included with the token's dependencies."""
    router = APIRouter()

    @router.get("/policies", summary="What is loaded", responses=problems("not_ready"))
    async def policies() -> dict[str, Any]:
        active = engine.policy.label
        return {"active": active, "policies": [summary(p, p.label == active) for p in engine.policies]}

    @router.get(
        "/policies/{name}",
        summary="A policy's contract",
        responses=problems("unknown_policy", "not_ready"),
    )
    async def policy_spec(name: str) -> dict[str, Any]:
        return engine.named(name).spec.model_dump(mode="json")

    @router.delete("/sessions/{session:path}", status_code=204, summary="A session starts over")
    async def reset(session: str) -> None:
        engine.forget_session(session)

    return router


def admin_router(engine: Engine, shelf: BundleShelf | None) -> APIRouter:
    """What changes the set of policies, to be included with the admin token's dependencies."""
    router = APIRouter()

    @router.post(
        "/policies",
        status_code=201,
        summary="Load and warm a bundle beside those being served",
        openapi_extra=_LOAD_BODY,
        responses=problems(
            "malformed", "forbidden", "unknown_policy", "too_large", "contract_mismatch", "overloaded"
        ),
    )
    async def load(request: Request) -> dict[str, Any]:
        bundle, activate = _read_load(await read_body(request, _MAX_BODY))
        if shelf is None:
            raise TinyVLAError("forbidden", "this server serves a policy that is no bundle, and loads none")
        try:
            # Looking for the directory may take its time where it lies on a network share.
            job = await asyncio.to_thread(shelf.load, bundle, activate=activate)
            (policy,) = await asyncio.shield(asyncio.wrap_future(job))
        except Exception as error:
            raise load_refusal(error) from None
        return _now(engine, policy)

    @router.post(
        "/policies/{name}/activate",
        summary="Let requests that name no policy go to this one",
        responses=problems("unknown_policy", "not_ready"),
    )
    async def activate(name: str) -> dict[str, Any]:
        return _now(engine, engine.activate(name))

    @router.delete(
        "/policies/{name}",
        summary="Take no more requests for a policy",
        responses=problems("unknown_policy", "forbidden", "not_ready"),
    )
    async def unload(name: str) -> dict[str, Any]:
        unloaded = summary(engine.unload(name), False)
        await asyncio.to_thread(give_back)
        return unloaded

    return router


def summary(policy: ServedPolicy, active: bool) -> dict[str, Any]:
    """A policy in a list."""
    spec = policy.spec
    return {
        "name": spec.name,
        "policy": policy.label,
        "hash": policy.hash,
        "active": active,
        "runtime": policy.runtime,
        "device": policy.device,
        "why": policy.why,
        "reuses_features": policy.reuses_features,
        "head": spec.head,
        "horizon": spec.horizon,
        "rate_hz": spec.action.rate_hz,
    }


def _now(engine: Engine, policy: ServedPolicy) -> dict[str, Any]:
    return summary(policy, engine.named(None) is policy)


def _read_load(body: bytes) -> tuple[str, bool]:
    fields = json_codec.parse(body)
    for key in fields:
        if key not in ("bundle", "activate"):
            raise malformed(key, "bundle or activate", "an unknown field")
    if "bundle" not in fields:
        raise malformed("bundle", "a directory beneath --bundle-root", "nothing")
    activate = fields.get("activate", False)
    if not isinstance(activate, bool):
        raise malformed("activate", "true or false", shown(activate))
    return as_text(fields["bundle"], "bundle", limit=MAX_TEXT), activate
