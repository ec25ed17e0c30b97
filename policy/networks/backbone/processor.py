"""The backbone's own processor, for images alone.

Processors of `transformers` bring a part for videos that needs torchvision. Policies see still images, so it is left
out. Images are resized with PIL, also where torchvision is installed and `transformers` would take other code for it:
a machine that has it must see what one without it saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policy.errors import UsageError

_VIDEO = "video_processor"


def load_processor(directory: Path, config: Any) -> Any:
    """The `ProcessorMixin` of a model with configuration `config`, read from its directory.

    Raises:
        UsageError: files that do not make a processor of images and text.
    """
    from transformers import AutoImageProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    if type(config) not in PROCESSOR_MAPPING:
        raise UsageError(f"backbone {directory}: transformers has no processor for {config.model_type!r}")
    kind = PROCESSOR_MAPPING[type(config)]
    try:
        how = {"local_files_only": True, "trust_remote_code": False}
        processor = _images_only(kind).from_pretrained(str(directory), **how)
        processor.image_processor = AutoImageProcessor.from_pretrained(str(directory), backend="pil", **how)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"backbone {directory}: its processor cannot be loaded: {reason}") from error
    processor.tokenizer.padding_side = "right"
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    if hasattr(processor.image_processor, "do_image_splitting"):
        # Cut into tiles, a view is a thousand tokens; the cameras' resolution fits into one.
        processor.image_processor.do_image_splitting = False
    return processor


def _images_only(kind: Any) -> Any:
    """`kind`, or a kind of it that asks for no video processor."""
    parts = kind.get_attributes()
    if _VIDEO not in parts:
        return kind

    class ImagesOnly(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [part for part in parts if part != _VIDEO]

        @classmethod
        def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
            given = iter(args)
            filled = [None if part == _VIDEO else next(given) for part in parts]
            return super().from_args_and_dict(filled, processor_dict, **kwargs)

    return ImagesOnly
