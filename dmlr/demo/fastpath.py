"""The demo model's forward passes for training: the library's mathematics for equal images and shared prefixes.

The library's vision tower attends window by window in a Python loop, and its decoder knows no shared prefix. Here
all windows of all images go through one attention call, prefix tokens attend causally among themselves, and the
tokens of a segment to the whole prefix and causally to their own segment. A test holds both against the library's
forward passes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLDecoderLayer,
    Qwen2_5_VLVisionBlock,
)
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square normalisation over the last axis, in float32."""
    x = x.float()
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (..., heads, head_dim) by cos, sin (..., 1, head_dim); keeps the dtype of x."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


def vision_features(tower: Qwen2_5_VisionTransformerPretrainedModel, values: Tensor, grid: Tensor) -> Tensor:
    """Projected features (N, J, D) of N images of one size whose sides are whole windows.

    `values` (N * patches, 1176) and `grid` (N, 3) are what the processor returns for them.
    """
    images, one = len(grid), grid[:1]
    merge = tower.spatial_merge_unit
    patch = tower.patch_size
    assert isinstance(patch, int)
    order, _ = get_vision_window_index(
        one,
        spatial_merge_size=tower.spatial_merge_size,
        window_size=tower.window_size,
        patch_size=patch,
    )
    order = torch.as_tensor(order, device=values.device)
    x = linear(values, tower.patch_embed.proj.weight.flatten(1))
    positions = get_vision_position_ids(one, tower.spatial_merge_size)
    cos, sin = (
        f.unflatten(0, (-1, merge))[order].flatten(0, 1)[:, None] for f in tower.rotary_pos_emb(x, positions)
    )
    x = x.unflatten(0, (images, -1, merge))[:, order].flatten(1, 2)  # (N, patches, width)
    window = (tower.window_size // patch) ** 2
    for index, block in enumerate(tower.blocks):
        span = x.shape[1] if index in tower.fullatt_block_indexes else window
        assert isinstance(block, Qwen2_5_VLVisionBlock)
        x = _vision_block(block, x, cos, sin, span)
    return tower.merger(x.flatten(0, 1)).unflatten(0, (images, -1))[:, order.argsort()]


def _vision_block(block: Qwen2_5_VLVisionBlock, x: Tensor, cos: Tensor, sin: Tensor, span: int) -> Tensor:
    """One block on x (N, patches, width), attention within consecutive runs of `span` patches."""
    attention = block.attn
    normed = rms_norm(x, block.norm1.weight, block.norm1.variance_epsilon)
    q, k, v = attention.qkv(normed).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    q, k, v = (t.unflatten(1, (-1, span)).flatten(0, 1).transpose(1, 2) for t in (q, k, v))
    mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + attention.proj(mixed.reshape(x.shape))
    normed = rms_norm(x, block.norm2.weight, block.norm2.variance_epsilon)
    mlp = block.mlp
    return x + mlp.down_proj(silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))


def decoder_layer(
    layer: Qwen2_5_VLDecoderLayer, x: Tensor, cos: Tensor, sin: Tensor, sizes: tuple[int, int, int, int, int]
) -> Tensor:
    """One decoder layer on x (B, P + A * a + S * s, D): a prefix, A segments of a tokens, S segments of s tokens.

    `sizes` is (P, A, a, S, s); cos and sin are (P + A * a + S * s, 1, head_dim).
    """
    attention = layer.self_attn
    norm = layer.input_layernorm
    normed = rms_norm(x, norm.weight, norm.variance_epsilon)
    head = (-1, attention.head_dim)
    q = rotate(attention.q_proj(normed).unflatten(-1, head), cos, sin)
    k = rotate(attention.k_proj(normed).unflatten(-1, head), cos, sin)
    v = attention.v_proj(normed).unflatten(-1, head)
    groups = attention.num_key_value_groups
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    prefix, longs, long, shorts, short = sizes
    cuts = (prefix, longs * long, shorts * short)
    (q0, q1, q2), (k0, k1, k2), (v0, v1, v2) = (t.split(cuts, dim=1) for t in (q, k, v))
    parts = [_attend(q0, k0, v0)]
    for count, length, own_q, own_k, own_v in ((longs, long, q1, k1, v1), (shorts, short, q2, k2, v2)):
        if count:
            seg_q, seg_k, seg_v = (t.unflatten(1, (count, length)) for t in (own_q, own_k, own_v))
            shared_k, shared_v = (t[:, None].expand(-1, count, -1, -1, -1) for t in (k0, v0))
            mixed = _attend(
                seg_q.flatten(0, 1),
                torch.cat((shared_k, seg_k), dim=2).flatten(0, 1),
                torch.cat((shared_v, seg_v), dim=2).flatten(0, 1),
            )
            parts.append(mixed.unflatten(0, (-1, count)).flatten(1, 2))
    x = x + attention.o_proj(torch.cat(parts, dim=1).flatten(2))
    norm = layer.post_attention_layernorm
    normed = rms_norm(x, norm.weight, norm.variance_epsilon)
    mlp = layer.mlp
    return x + mlp.down_proj(silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of q (N, Q, heads, d) to k, v (N, T, heads, d): its own Q last keys causally, all keys before them."""
    rows, length, heads, width = q.shape
    total = k.shape[1]
    visible = torch.ones(length, total, dtype=torch.bool, device=q.device).tril(total - length)
    mask = torch.zeros(length, total, dtype=q.dtype, device=q.device).masked_fill_(~visible, float("-inf"))
    q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
    # Written out in bfloat16: on a CPU the backward pass of fused attention takes several times as long.
    with torch.autocast(q.device.type, enabled=False):
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5)
        mixed = scores.softmax(-1) @ v
    return mixed.unflatten(0, (rows, heads)).transpose(1, 2)


def rotary(model: Qwen2_5_VLForConditionalGeneration, positions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Cosine and sine (total, 1, head_dim) float32 of concatenated M-RoPE positions, each (3, length)."""
    joined = torch.cat(list(positions), dim=1)[:, None]
    cos, sin = model.model.language_model.rotary_emb(torch.zeros(1), joined)
    return cos[0, :, None], sin[0, :, None]
