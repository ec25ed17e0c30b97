"""For all tests: a property is about what happens, never about how long a busy machine takes for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tinyvla", deadline=None)
settings.load_profile("tinyvla")


@pytest.fixture(scope="session")
def backbone_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Architecture -> directory of a tiny random checkpoint; written once, never to be changed by a test."""
    from tests.tiny_backbones import write_backbone

    made: dict[str, Path] = {}

    def backbone(kind: str = "qwen2_5_vl") -> Path:
        if kind not in made:
            made[kind] = write_backbone(tmp_path_factory.mktemp("backbones") / kind, kind)
        return made[kind]

    return backbone
