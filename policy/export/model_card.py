"""A bundle's README.md, made from its contract."""

from __future__ import annotations

import json

from policy.spec import PolicySpec


def model_card(spec: PolicySpec) -> str:
    """Markdown: what the policy sees, does, how it was trained and measured."""
    lines = [f"# {spec.name}", "", f"A {spec.head} policy in the format `{spec.format}`.", "", "## Sees", ""]
    lines += [f"- camera `{c.name}`: RGB, {c.height} x {c.width}" for c in spec.cameras]
    if spec.backbone is not None:
        b = spec.backbone
        how = f"LoRA of rank {b.lora_rank} on {', '.join(b.lora_targets)}" if b.lora_rank else "frozen"
        commit = f" at {b.revision}" if b.revision else ""
        lines += [
            f"- through `{b.name}`{commit} ({b.model_type}, {b.dtype}, {how})",
            f"- views in this order: {', '.join(b.views)}",
        ]
    lines += [
        f"- state: {', '.join(f'{n} [{u}]' for n, u in zip(spec.state.names, spec.state.units, strict=True))}"
    ]
    lines += [
        f"- sensor `{s.name}`: {s.window} samples of {s.channels} at {s.rate_hz:g} Hz [{s.units}]"
        + (", optional" if s.optional else "")
        for s in spec.sensors
    ]
    lines += [f"- instruction, {'required' if spec.instruction.required else 'optional'}; trained on:"]
    lines += [f'  - {task}: "{text}"' for task, texts in spec.instruction.by_task.items() for text in texts]
    action = spec.action
    lines += ["", "## Does", ""]
    lines += [f"{spec.horizon} actions ({action.kind}) at {action.rate_hz:g} Hz per chunk:", ""]
    lines += ["| action | unit | low | high |", "|---|---|---|---|"]
    lines += [
        f"| {n} | {u} | {lo:g} | {hi:g} |"
        for n, u, lo, hi in zip(action.names, action.units, action.low, action.high, strict=True)
    ]
    if spec.sampler is not None:
        s = spec.sampler
        lines += [
            "",
            f"Sampled with DDIM in {s.default_steps} steps by default (any 1 ... {s.train_steps}), or DDPM; predicts "
            f"`{s.prediction_type}`; continues prefixes of up to {spec.max_prefix} committed actions.",
        ]
        if s.temperature != 1:
            lines += [f"Sampling starts from noise of standard deviation {s.temperature:g}."]
    lines += ["", "## Trained", ""]
    lines += [
        f"- {key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in spec.training.items()
    ]
    lines += ["", "## Measured", ""]
    if not spec.measured:
        lines += ["Not measured yet."]
    else:
        columns = list(spec.measured[0])
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for row in spec.measured]
    return "\n".join(lines) + "\n"
