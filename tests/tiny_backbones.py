"""Checkpoints of real vision-language architectures, random and tiny, saved as the hub holds real ones.

Configuration, weights, tokenizer, processor and chat template are written by `transformers` itself, so that they are
loaded by the very code that loads real ones. Their weights depend on the seed alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

KINDS = ("qwen2_5_vl", "smolvlm", "idefics3", "llava")
_WIDTH = 32
_CONTENT = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def write_backbone(
    directory: Path, kind: str = "qwen2_5_vl", *, seed: int = 0, layers: int = 2, **sizes: Any
) -> Path:
    """Save a checkpoint; `sizes` go to the language model's configuration."""
    torch.manual_seed(seed)
    text = {
        "hidden_size": _WIDTH, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024, **sizes,
    }  # fmt: skip
    model, processor = _MAKERS[kind](text)
    model.eval().save_pretrained(directory)
    processor.save(directory)
    return directory


class _Processor:
    """The parts of a processor, saved without the class that wants torchvision for videos."""

    def __init__(self, tokenizer: Any, image_processor: Any, image: str, **settings: Any) -> None:
        self.tokenizer, self.image_processor, self.settings = tokenizer, image_processor, settings
        tokenizer.chat_template = _CONTENT.replace("IMAGE", image)

    def save(self, directory: Path) -> None:
        import json

        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)
        (directory / "processor_config.json").write_text(json.dumps(self.settings))


def _tokenizer(special: list[str]) -> Any:
    """Bytes as tokens, and the special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", additional_special_tokens=special
    )


def _qwen(text: dict[str, Any]) -> tuple[Any, _Processor]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(special)
    start, end, image, video = tokenizer.convert_tokens_to_ids(special)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
            **text,
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 14,
            "out_hidden_size": text["hidden_size"], "fullatt_block_indexes": [1], "window_size": 56,
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    processor = _Processor(
        tokenizer, Qwen2VLImageProcessorPil(), "<|vision_start|><|image_pad|><|vision_end|>"
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _idefics_parts(text: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    tokenizer = _tokenizer(
        ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", "<video>"]
    )
    config = {
        "text_config": {
            "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, **text,
        },
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8,
        },
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "scale_factor": 2,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    pictures = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 64}}
    return tokenizer, config, pictures


def _smolvlm(text: dict[str, Any]) -> tuple[Any, _Processor]:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil

    tokenizer, config, pictures = _idefics_parts(text)
    processor = _Processor(tokenizer, SmolVLMImageProcessorPil(**pictures), "<image>", image_seq_len=16)
    return SmolVLMForConditionalGeneration(SmolVLMConfig(**config)), processor


def _idefics3(text: dict[str, Any]) -> tuple[Any, _Processor]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil

    tokenizer, config, pictures = _idefics_parts(text)
    processor = _Processor(tokenizer, Idefics3ImageProcessorPil(**pictures), "<image>", image_seq_len=16)
    return Idefics3ForConditionalGeneration(Idefics3Config(**config)), processor


def _llava(text: dict[str, Any]) -> tuple[Any, _Processor]:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = _tokenizer(["<image>"])
    config = LlavaConfig(
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, **text,
        },
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 16,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=16,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    settings = {
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    return LlavaForConditionalGeneration(config), _Processor(tokenizer, pictures, "<image>\n", **settings)


_MAKERS = {"qwen2_5_vl": _qwen, "smolvlm": _smolvlm, "idefics3": _idefics3, "llava": _llava}
