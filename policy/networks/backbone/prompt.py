"""What the backbone is shown: every view, in the spec's order, and the task in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.errors import UsageError
from policy.networks.backbone.processor import load_processor

PROMPT = "The robot's task: {instruction}"


class Prompt:
    """Images and instructions -> what the model's `forward` takes.

    Args:
        order: place of each view in the observation's images, in the order in which the prompt shows them.
        text: see `BackboneSpec.prompt`.
        limit: see `BackboneSpec.tokens`; instructions are shortened to fit.
    """

    def __init__(
        self, directory: Path, config: Any, order: Sequence[int], text: str, limit: int | None
    ) -> None:
        self._name, self._order, self._text = str(directory), list(order), text
        self._processor = load_processor(directory, config)
        self._image_token = _image_token(self._processor, config)
        self._special = _special(self._processor)
        self._limit = limit
        self._fitted = functools.lru_cache(maxsize=1024)(self._fit)

    def inputs(self, images: np.ndarray, instructions: Sequence[str]) -> dict[str, torch.Tensor]:
        """uint8 [B, V, H, W, 3] and B texts -> tensors on the processor, padded at the right.

        Raises:
            UsageError: a prompt without image tokens for every view, which would leave the policy blind.
        """
        height, width = images.shape[2:4]
        texts = [self._written(self._fitted(text, height, width)) for text in instructions]
        return self._process(images, texts)

    def length(self, instruction: str, height: int, width: int) -> int:
        """Tokens of the prompt for views of this size."""
        black = np.zeros((1, len(self._order), height, width, 3), np.uint8)
        return self._process(black, [self._written(instruction)])["input_ids"].shape[1]

    def _fit(self, instruction: str, height: int, width: int) -> str:
        while self._limit is not None and instruction:
            excess = self.length(instruction, height, width) - self._limit
            if excess <= 0:
                break
            instruction = instruction[:-excess]  # a character is at least a token where it is removed alone
        return instruction

    def _written(self, instruction: str) -> str:
        for token in self._special:  # an instruction is words, whoever sends it
            instruction = instruction.replace(token, " ")
        text = self._text.replace("{instruction}", instruction)
        processor = self._processor
        template = processor.chat_template or processor.tokenizer.chat_template
        if template is None:
            return str(processor.image_token) * len(self._order) + text
        content = [*({"type": "image"} for _ in self._order), {"type": "text", "text": text}]
        message = [{"role": "user", "content": content}]
        # The tokenizer's: some processors would look for videos first.
        return processor.tokenizer.apply_chat_template(
            message, chat_template=template, add_generation_prompt=True, tokenize=False
        )

    def _process(self, images: np.ndarray, texts: list[str]) -> dict[str, torch.Tensor]:
        views = [[observation[place] for place in self._order] for observation in images]
        try:
            found = self._processor(images=views, text=texts, return_tensors="pt", padding=True)
        except ValueError as error:
            raise UsageError(f"backbone {self._name}: its processor refuses the prompt: {error}") from error
        self.check_images(found["input_ids"])
        return dict(found)

    def check_images(self, ids: torch.Tensor) -> None:
        """Raise UsageError unless every row of token ids [B, L] has image tokens for each view."""
        counts = (ids == self._image_token).sum(1)
        if int(counts.min()) < len(self._order):
            raise UsageError(
                f"backbone {self._name}: its prompt holds {int(counts.min())} image tokens for {len(self._order)} "
                "views, so the policy would be blind; is its chat template one for images?"
            )


def _image_token(processor: Any, config: Any) -> int:
    for owner, name in (
        (processor, "image_token_id"),
        (config, "image_token_id"),
        (config, "image_token_index"),
    ):
        found = getattr(owner, name, None)
        if isinstance(found, int):
            return found
    raise UsageError(f"backbone of type {config.model_type}: it has no image token")


def _special(processor: Any) -> list[str]:
    """Texts that the tokenizer would take for more than words, such as the place of an image."""
    found = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    found |= {
        str(getattr(processor, name)) for name in ("image_token", "video_token") if hasattr(processor, name)
    }
    return sorted((token for token in found if token.strip()), key=len, reverse=True)
