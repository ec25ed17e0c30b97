"""Low-rank adapters (LoRA, Hu et al., 2021) through `peft`, owned by the policy network and lent to the backbone.

The backbone is one frozen module, however many networks look through it: the one in training, its moving average, the
policies of a server. Each of them owns its adapters and puts them in before it looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policy.errors import UsageError
from policy.spec import BackboneSpec


class Adapters:
    """The places in a backbone where adapters go.

    Raises:
        UsageError: peft is not installed, or targets that name no linear layer of this backbone.
    """

    def __init__(self, model: nn.Module, spec: BackboneSpec) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise UsageError("adapters need peft; run: pip install -c constraints.txt -e '.[vlm]'") from None
        config = LoraConfig(
            r=spec.lora_rank, lora_alpha=spec.lora_alpha, target_modules=list(spec.lora_targets), bias="none"
        )
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"--lora-targets {' '.join(spec.lora_targets)}: {reason}") from None
        self._places: dict[str, tuple[nn.Module, str]] = {}
        self._shapes: dict[str, torch.Size] = {}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(False)
            if ".lora_" in name:
                module, _, leaf = name.rpartition(".")
                key = name.replace(".default.weight", "").replace(".", "/")  # a parameter's name has no dots
                self._places[key] = (model.get_submodule(module), leaf)
                self._shapes[key] = parameter.shape

    def fresh(self) -> nn.ParameterDict:
        """Adapters that change nothing yet, 32 bits: A random, B zero."""
        made = nn.ParameterDict()
        for key, shape in self._shapes.items():
            weight = torch.zeros(shape)
            if "lora_A" in key:
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            made[key] = nn.Parameter(weight)
        return made

    def put_in(self, adapters: Mapping[str, Tensor]) -> None:
        """Let the backbone compute with these."""
        for key, (module, leaf) in self._places.items():
            module._parameters[leaf] = adapters[key]  # type: ignore[assignment]
