"""The trunk of both heads: a DiT (Peebles & Xie, 2023) with adaLN-zero and a timestep of its own for every token.

Actions already committed enter clean at timestep "clean" (training-time real-time chunking, arXiv 2512.05964); a token
holds several consecutive actions, so that 48 actions are 12 tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policy.networks.config import NetworkConfig
from policy.networks.init import zero_init

_TIME_DIM = 64


def timestep_embedding(position: Tensor) -> Tensor:
    """Sinusoidal embedding of positions [...] (0 = clean, t + 1 = noised to timestep t) -> [..., 64]."""
    half = _TIME_DIM // 2
    frequencies = torch.exp(-math.log(1000.0) * torch.arange(half, device=position.device).float() / half)
    angles = position.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


class Attention(nn.Module):
    """Multi-head attention of queries [B, N, D] to sources [B, M, D]; the output projection starts at zero."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = zero_init(nn.Linear(dim, dim))

    def forward(self, x: Tensor, source: Tensor, present: Tensor | None = None) -> Tensor:
        """Sources of which `present` [B, M] is False are not attended to."""
        batch, length, dim = x.shape
        head_dim = dim // self.heads
        query = self.query(x).reshape(batch, length, self.heads, head_dim).transpose(1, 2)
        key, value = (
            part.reshape(batch, source.shape[1], self.heads, head_dim).transpose(1, 2)
            for part in self.key_value(source).chunk(2, -1)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(head_dim)
        if present is not None:
            scores = scores.masked_fill(~present[:, None, None], -torch.inf)
        weights = scores.softmax(-1)
        return self.out((weights.to(value.dtype) @ value).transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    """Self-attention, cross-attention to the context, MLP; each behind its own adaLN shift, scale and gate."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False) for _ in range(3))
        self.self_attention = Attention(dim, heads)
        self.cross_attention = Attention(dim, heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU("tanh"), zero_init(nn.Linear(mlp_ratio * dim, dim))
        )
        # One modulation network serves all blocks (PixArt-alpha, Chen et al., 2023); each block adds its own table.
        self.table = nn.Parameter(torch.randn(9, dim) / math.sqrt(dim))

    def forward(
        self, x: Tensor, context: Tensor, modulation: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """x [B, N, D], context [B, M, D], modulation [B, N, 9, D], present [B, M]."""
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = (
            modulation + self.table
        ).unbind(2)
        h = _modulate(self.norms[0](x), shift1, scale1)
        x = x + gate1 * self.self_attention(h, h)
        x = x + gate2 * self.cross_attention(_modulate(self.norms[1](x), shift2, scale2), context, present)
        return x + gate3 * self.mlp(_modulate(self.norms[2](x), shift3, scale3))


class Trunk(nn.Module):
    """Noisy chunk, timestep, prefix length and context -> the network's prediction, all normalised.

    Args:
        padded_context: rows of zeros in the context are no tokens, and nothing attends to them.
    """

    def __init__(
        self, action_dim: int, horizon: int, config: NetworkConfig, *, padded_context: bool = False
    ) -> None:
        super().__init__()
        if horizon % config.actions_per_token:
            raise ValueError(
                f"horizon {horizon} is no multiple of {config.actions_per_token} actions per token"
            )
        dim, self.per_token = config.hidden_dim, config.actions_per_token
        self.horizon, self.action_dim = horizon, action_dim
        self.padded_context = padded_context
        self.tokens = horizon // self.per_token
        self.embed = nn.Linear(self.per_token * (action_dim + 1), dim)
        self.position = nn.Parameter(torch.randn(self.tokens, dim) * 0.5)
        self.time = nn.Sequential(nn.Linear(_TIME_DIM, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.pool = nn.Linear(dim, dim)
        self.modulation = zero_init(nn.Linear(dim, 9 * dim))
        self.context_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.out_norm = nn.LayerNorm(dim)
        self.out = zero_init(nn.Linear(dim, self.per_token * action_dim))

    def forward(self, chunk: Tensor, timestep: Tensor, prefix_length: Tensor, context: Tensor) -> Tensor:
        """chunk [B, H, A], timestep int64 [B], prefix_length int64 [B], context [B, M, D] -> [B, H, A]."""
        batch = chunk.shape[0]
        index = torch.arange(self.horizon, device=chunk.device)
        committed = (index.unsqueeze(0) < prefix_length.unsqueeze(1)).float()  # [B, H]
        x = torch.cat([chunk, committed.unsqueeze(-1)], -1).reshape(batch, self.tokens, -1)
        x = self.embed(x) + self.position
        # A token that is committed only in part keeps the noisy timestep; its mask says which actions are clean.
        clean = committed.reshape(batch, self.tokens, self.per_token).amin(-1)
        position = (timestep.unsqueeze(1) + 1).float() * (1 - clean)
        present = (context != 0).any(-1) if self.padded_context else None
        if present is None:
            pooled = context.mean(1, keepdim=True)
        else:
            pooled = context.sum(1, keepdim=True) / present.sum(1)[:, None, None]
        condition = self.time(timestep_embedding(position)) + self.pool(pooled)
        modulation = self.modulation(F.silu(condition)).reshape(batch, self.tokens, 9, -1)
        context = self.context_norm(context)
        for block in self.blocks:
            x = block(x, context, modulation, present)
        return self.out(self.out_norm(x)).reshape(batch, self.horizon, self.action_dim).float()
