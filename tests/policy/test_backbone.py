"""Vision-language backbones: every view and the text really reach the features, whatever the architecture."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.errors import UsageError
from policy.networks.backbone import files
from policy.networks.backbone.encoder import is_token
from policy.networks.backbone.files import find_backbone, find_recorded
from policy.networks.backbone.model import load_config, open_backbone
from policy.networks.backbone.processor import load_processor
from policy.networks.backbone.prompt import PROMPT, Prompt
from policy.networks.network import PolicyNetwork
from policy.spec import BackboneSpec
from policy.text import to_bytes
from tests.tiny_backbones import KINDS, write_backbone

TEXTS = ("pick up the cube", "open the drawer")
LORA = {"lora_rank": 2, "lora_alpha": 4, "lora_targets": ("q_proj", "v_proj")}


@pytest.fixture(scope="module")
def spec(make_spec, force):
    return make_spec(cameras=("front", "side"), sensors=(force,))


def pictures(rows: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 2, 32, 32, 3), dtype=torch.uint8, generator=generator)


def as_bytes(*texts: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([to_bytes(text) for text in texts]))


def look(spec, images=None, texts=TEXTS, adapters=None) -> torch.Tensor:
    with torch.no_grad():
        return open_backbone(spec).look(
            pictures() if images is None else images, as_bytes(*texts), adapters or {}
        )


def woken(network: PolicyNetwork, seed: int) -> PolicyNetwork:
    """Off the zeros that adapters and output layers start at."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_each_view_and_the_text_change_the_features_of_their_own_row(see_through, spec, kind):
    spec = see_through(spec, kind)
    seen = look(spec)
    assert seen.shape == (2, 96, 32)
    for view in (0, 1):
        images = pictures()
        images[0, view] = 255 - images[0, view]
        changed = look(spec, images)
        assert (changed[0] - seen[0]).abs().max() > 1e-3
        torch.testing.assert_close(changed[1], seen[1])
    assert (look(spec, texts=(TEXTS[0], "close the drawer"))[1] - seen[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_shown_in_the_order_of_the_spec(see_through, spec, kind):
    swapped = see_through(spec, kind, views=("side", "front"))
    straight = see_through(spec, kind)
    assert (look(swapped) - look(straight)).abs().max() > 1e-3
    torch.testing.assert_close(look(swapped, pictures().flip(1)), look(straight))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_alone_and_its_padding_is_zeros(see_through, spec, kind):
    spec = see_through(spec, kind)
    texts = ("go", "pick up the green cube there")  # the first is padded in the batch
    seen = look(spec, texts=texts)
    for row in (0, 1):
        alone = look(spec, pictures()[row : row + 1], texts[row : row + 1])
        torch.testing.assert_close(seen[row], alone[0], atol=1e-4, rtol=1e-4)
    lengths = is_token(seen).sum(1)
    assert lengths[1] - lengths[0] == len(texts[1]) - len(texts[0])  # a byte is a token
    assert not seen[0, lengths[0] :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_without_the_images_is_refused(backbone_at, tmp_path, kind):
    directory = tmp_path / kind
    shutil.copytree(backbone_at(kind), directory)
    template = directory / "chat_template.jinja"
    template.write_text("{% for message in messages %}{{ message['content'][-1]['text'] }}{% endfor %}")
    prompt = Prompt(
        directory, load_config(find_backbone(str(directory), download=False)), [0, 1], PROMPT, None
    )
    with pytest.raises(UsageError, match="image"):
        prompt.inputs(pictures().numpy(), TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_resized_with_pil_where_torchvision_is_installed_too(backbone_at, monkeypatch, kind):
    from transformers.models.auto import image_processing_auto

    chosen = []
    right = image_processing_auto._load_backend_class
    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: True)
    monkeypatch.setattr(
        image_processing_auto,
        "_load_backend_class",
        lambda name, backend, *rest: chosen.append(backend) or right(name, backend, *rest),
    )
    directory = backbone_at(kind)
    load_processor(directory, load_config(find_backbone(str(directory), download=False)))
    assert chosen[-1] == "pil"


def test_ids_with_too_few_image_tokens_are_refused(backbone_at):
    """Also where a processor would let them pass."""
    files = find_backbone(str(backbone_at()), download=False)
    config = load_config(files)
    prompt = Prompt(files.directory, config, [0, 1], PROMPT, None)
    full = torch.tensor([[1, config.image_token_id, config.image_token_id, 2]])
    prompt.check_images(full)
    with pytest.raises(UsageError, match=r"1 image tokens for 2 views.*blind"):
        prompt.check_images(torch.tensor([[1, config.image_token_id, 3, 2]]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_cannot_pose_as_an_image_and_is_cut_to_fit(see_through, spec, kind):
    spec = see_through(spec, kind)
    posing = look(spec, texts=("take <image> the <|image_pad|> cube", "go"))
    assert is_token(posing).sum() == is_token(posing).cumprod(1).sum()
    long = look(spec, texts=("pick up the cube " * 30, "go"))
    assert long.shape == (2, 96, 32)
    assert is_token(long)[0].all()


def test_the_head_attends_to_no_padding(see_through, spec, tiny_config):
    network = woken(PolicyNetwork(see_through(spec), tiny_config), 0)
    context = torch.randn(1, 5, 24)
    padded = torch.cat([context[:, :2], torch.zeros(1, 7, 24), context[:, 2:]], 1)
    arguments = torch.randn(1, 8, 3), torch.tensor([50]), torch.tensor([0])
    with torch.no_grad():
        torch.testing.assert_close(network.denoise(*arguments, padded), network.denoise(*arguments, context))
        assert not torch.equal(
            network.denoise(*arguments, context[:, :4]), network.denoise(*arguments, context)
        )


def test_tokens_state_and_sensors_are_context_tokens_of_their_own(see_through, spec, tiny_config):
    network = woken(PolicyNetwork(see_through(spec), tiny_config), 0)
    seen = look(see_through(spec))
    state, window, mask = torch.rand(2, 2), torch.rand(2, 8, 2), torch.ones(2, 8)
    context = network.encoder.fuse_known(seen, state, window, mask)
    assert context.shape == (2, 98, 24)
    torch.testing.assert_close(is_token(context)[:, :96], is_token(seen))
    for place, changed in ((96, (seen, state + 1, window, mask)), (97, (seen, state, window * 2, mask))):
        rows = (network.encoder.fuse_known(*changed) != context).any(-1).any(0)
        assert rows.nonzero().flatten().tolist() == [place]


def test_copies_share_the_backbone_and_store_none_of_it(see_through, spec, tiny_config):
    spec = see_through(spec, **LORA)
    network = PolicyNetwork(spec, tiny_config)
    copied, other = copy.deepcopy(network), PolicyNetwork(spec, tiny_config)
    assert copied.encoder.backbone is network.encoder.backbone is other.encoder.backbone
    stored = [name for name in network.state_dict() if "layers" in name]
    assert len(stored) == 2 * 2 * 2 * 1  # two layers, two targets, A and B
    assert all(".lora." in name for name in stored)


def test_policies_trained_on_other_tasks_or_cameras_share_one_model_in_memory(see_through, spec, make_spec):
    long, short = see_through(spec), see_through(spec, tokens=80)
    one_view = see_through(make_spec())
    held = [open_backbone(each) for each in (long, short, one_view)]
    assert held[0].model is held[1].model is held[2].model
    assert look(short).shape == (2, 80, 32)
    torch.testing.assert_close(look(long)[:, :80], look(short))
    assert look(one_view, pictures()[:, :1]).shape == (2, 96, 32)
    for other in ({"dtype": "bf16"}, LORA):
        assert open_backbone(see_through(spec, **other)).model is not held[0].model


def test_networks_with_adapters_of_their_own_see_differently_through_one_backbone(
    see_through, spec, tiny_config
):
    spec = see_through(spec, **LORA)
    networks = [woken(PolicyNetwork(spec, tiny_config), seed) for seed in (0, 1)]
    with torch.no_grad():
        first, second, again = (
            network.encoder.see(pictures(), as_bytes(*TEXTS)) for network in (*networks, networks[0])
        )
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(first, again, atol=0, rtol=0)


def test_fresh_adapters_change_nothing(see_through, spec, tiny_config):
    network = PolicyNetwork(see_through(spec, **LORA), tiny_config)
    with torch.no_grad():
        adapted = network.encoder.see(pictures(), as_bytes(*TEXTS))
    torch.testing.assert_close(adapted, look(see_through(spec)))


def gradients(spec, tiny_config, *, checkpointing: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Of the adapters, and how often the first layer ran."""
    torch.manual_seed(0)
    network = woken(PolicyNetwork(spec, tiny_config), 0)
    backbone = network.encoder.backbone
    if checkpointing:
        backbone.checkpoint_gradients()
    ran = []
    layer = backbone.model.language_model.layers[0].self_attn
    hook = layer.register_forward_pre_hook(lambda *_: ran.append(1))
    network.encoder.see(pictures(), as_bytes(*TEXTS)).square().mean().backward()
    hook.remove()
    return {name: parameter.grad.clone() for name, parameter in network.encoder.lora.items()}, len(ran)


def test_gradient_checkpointing_gives_the_same_gradients_by_computing_twice(see_through, spec, tiny_config):
    plain, once = gradients(see_through(spec, **LORA), tiny_config, checkpointing=False)
    saved, twice = gradients(see_through(spec, **LORA), tiny_config, checkpointing=True)
    assert (once, twice) == (1, 2)
    for name, gradient in plain.items():
        assert gradient.any()
        torch.testing.assert_close(saved[name], gradient)


def test_a_frozen_backbone_builds_no_graph(see_through, spec, tiny_config):
    network = PolicyNetwork(see_through(spec), tiny_config)
    assert not network.encoder.see(pictures(), as_bytes(*TEXTS)).requires_grad


def test_bf16_is_close_to_fp32_and_is_not_it(see_through, spec):
    wide, narrow = look(see_through(spec)), look(see_through(spec, dtype="bf16"))
    assert narrow.dtype == torch.float32
    error = (wide - narrow).norm() / wide.norm()
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"]
)
def test_a_backbone_that_was_altered_is_refused(see_through, spec, backbone_at, tmp_path, file):
    directory = tmp_path / "altered"
    shutil.copytree(backbone_at(), directory)
    spec = see_through(spec, name=str(directory))
    with (directory / file).open("ab") as stored:
        stored.write(b" ")
    with pytest.raises(UsageError, match="SHA-256"):
        open_backbone(spec)


@pytest.fixture
def elsewhere(monkeypatch, see_through, spec, backbone_at, tmp_path) -> tuple[BackboneSpec, Path]:
    """What a contract names, and where its directory lies on a machine that never saw it before."""
    named = see_through(spec).backbone
    assert named.name == backbone_at().name  # and not where that lies
    shutil.copytree(backbone_at(), tmp_path / "models" / named.name)
    monkeypatch.setattr(files, "_SEEN", {})
    monkeypatch.delenv(files.DIRECTORY, raising=False)
    return named, tmp_path / "models" / named.name


def test_a_directory_that_lies_elsewhere_is_found_beneath_the_one_that_is_named(elsewhere, monkeypatch):
    named, directory = elsewhere
    with pytest.raises(UsageError, match=r"no such directory .* with TINYVLA_BACKBONE_DIR \(tinyvla serve: "):
        find_recorded(named)
    for told in (directory.parent, directory):
        monkeypatch.setattr(files, "_SEEN", {})
        monkeypatch.setenv(files.DIRECTORY, str(told))
        assert find_recorded(named).directory == directory
    monkeypatch.delenv(files.DIRECTORY)
    assert find_recorded(named).directory == directory  # this process has seen it there


def test_it_may_have_another_name_but_must_be_the_same_model(elsewhere, monkeypatch, backbone_at, tmp_path):
    named, directory = elsewhere
    monkeypatch.setenv(files.DIRECTORY, str(directory.rename(tmp_path / "renamed")))
    assert find_recorded(named).directory == tmp_path / "renamed"
    monkeypatch.setenv(files.DIRECTORY, str(backbone_at("llava")))
    with pytest.raises(UsageError, match=r"llava holds another one than .* \(SHA-256 differs\)"):
        find_recorded(named)


def test_a_model_of_the_hub_may_lie_in_a_directory_too(elsewhere, monkeypatch):
    named, directory = elsewhere
    on_the_hub = named.model_copy(update={"name": f"no-one/{named.name}", "revision": "0" * 40})
    with pytest.raises(UsageError, match="hf download"):
        find_recorded(on_the_hub)
    monkeypatch.setenv(files.DIRECTORY, str(directory.parent))
    assert find_recorded(on_the_hub).directory == directory


@pytest.mark.parametrize(
    "name", ["/no/such/place", "./nowhere", "no-one/has-this-model", "not a name/at//all"]
)
def test_a_backbone_that_is_not_there_is_one_line(name):
    with pytest.raises(UsageError, match="backbone") as refused:
        find_backbone(name, download=False)
    assert "\n" not in str(refused.value)


def test_a_model_without_images_is_refused(backbone_at, tmp_path):
    directory = tmp_path / "text-only"
    shutil.copytree(backbone_at(), directory)
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UsageError, match="llama is no image-text model"):
        load_config(find_backbone(str(directory), download=False))


def test_code_that_came_with_a_model_is_never_run_nor_asked_about(backbone_at, tmp_path, monkeypatch):
    """No hash covers it, and a server's terminal may have nobody to answer."""
    directory = tmp_path / "mystery"
    shutil.copytree(backbone_at(), directory)
    (directory / "config.json").write_text(
        json.dumps({"model_type": "mystery", "auto_map": {"AutoConfig": "code.Config"}})
    )
    (directory / "code.py").write_text("raise SystemExit('the code was run')")
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    with pytest.raises(UsageError, match="backbone mystery"):
        load_config(find_backbone(str(directory), download=False))
    assert not asked


def test_weights_that_are_incomplete_are_refused(see_through, spec, tmp_path):
    from safetensors.torch import load_file, save_file

    directory = write_backbone(tmp_path / "partial")
    weights = load_file(directory / "model.safetensors")
    removed = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file(
        {name: tensor for name, tensor in weights.items() if name != removed},
        directory / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    files = find_backbone(str(directory), download=False)
    with pytest.raises(UsageError, match=r"incomplete.*q_proj"):
        open_backbone(see_through(spec, name=files.name, sha256=files.sha256()))


def test_targets_that_no_layer_has_are_refused(see_through, spec):
    with pytest.raises(UsageError, match="--lora-targets nothing"):
        open_backbone(see_through(spec, **{**LORA, "lora_targets": ("nothing",)}))
