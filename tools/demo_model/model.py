"""The network: a small Llama (RMSNorm, RoPE, SwiGLU, tied embeddings) that `export.py` can hand to llama.cpp as it is.

Not a general Llama: no grouped queries, no dropout, no cache (answers are made by llama.cpp, never here).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PLAIN_ATTENTION_MAX = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network. `ff` and `dim` are multiples of 32, which is the block length of Q8_0."""

    vocab: int = 2048
    dim: int = 256
    layers: int = 6
    heads: int = 4
    ff: int = 704
    context: int = 2048
    rope_base: float = 10_000.0
    eps: float = 1e-5


def rope_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [length, head_dim / 2]."""
    half = shape.dim // shape.heads // 2
    frequency = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE over the pairs (2i, 2i + 1): the layout that llama.cpp expects of the architecture `llama`.

    x: [batch, heads, time, head_dim]; cos and sin: [time, head_dim / 2].
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over [batch, heads, time, head_dim].

    For short texts plain products in bf16 are four times as fast as the fused kernel on a CPU.
    """
    time, head_dim = q.shape[-2:]
    if time > PLAIN_ATTENTION_MAX:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    mask = torch.full((time, time), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    q3, k3, v3 = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    scores = torch.baddbmm(mask.expand(len(q3), time, time), q3, k3.transpose(1, 2), alpha=head_dim**-0.5)
    return scores.softmax(-1).to(v.dtype).bmm(v3).view_as(q)


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(shape.dim, eps=shape.eps)
        self.attn_qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.attn_output = nn.Linear(shape.dim, shape.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.dim, eps=shape.eps)
        self.ffn_gate_up = nn.Linear(shape.dim, 2 * shape.ff, bias=False)
        self.ffn_down = nn.Linear(shape.ff, shape.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, dim = x.shape
        qkv = self.attn_qkv(self.attn_norm(x)).view(batch, time, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, time, dim))
        gate, up = self.ffn_gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(functional.silu(gate) * up)


class Llama(nn.Module):
    """Token ids [batch, time] → hidden states [batch, time, dim]; `logits` turns the chosen ones into scores."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.dim, eps=shape.eps)
        cos, sin = rope_table(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 if not deep else 0.02 / (2 * shape.layers) ** 0.5)

    def forward(self, ids: Tensor) -> Tensor:
        time = ids.shape[1]
        x = self.token_embd(ids)
        cos, sin = self.cos[:time].to(x.dtype), self.sin[:time].to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.token_embd.weight)
