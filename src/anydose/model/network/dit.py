"""The Any2Any diffusion transformer: Wan 2.1's block without text, over the tokens of every visible modality.

Modality patchify -> domain and role embeddings -> full self-attention with 4D RoPE -> read-out of the
target's tokens. The condition code enters with the timestep through the AdaLN modulation; there is no
cross-attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from anydose.case import modality
from anydose.diffusion.path import alpha_sigma, velocity_of_estimate
from anydose.model.codec.codec import Codec, is_voxelwise, lead
from anydose.model.network.backbone import Edges, Place, VoxelNetwork, in_turn
from anydose.model.network.layers import sinusoid
from anydose.model.network.read_out import ConvolutionalHead, PlateReadOut
from anydose.model.network.tokens import (
    Patches,
    edges,
    interpolate,
    kept_blocks,
    pack,
    rope_frequencies,
    rope_phases,
    rotate,
    unpack,
)

PATCH: tuple[tuple[str, Edges], ...] = tuple((row.name, row.patch) for row in modality.TABLE.values())


@dataclass(frozen=True)
class DiTConfig:
    """The transformer's size, and what it has beside the paper's blocks. Every default is the plain DiT."""

    dim: int = 256
    """Width of a token."""
    depth: int = 8
    """Blocks."""
    heads: int = 4
    """Attention heads; each has dim / heads numbers, which the four axes of the position code share."""
    ffn: int = 1024
    """Width of the blocks' MLP."""
    patch: tuple[tuple[str, Edges], ...] = PATCH
    """Latent voxels along a token's edges, per modality."""
    unit_mm: float = 16.0
    """Millimetres that are one RoPE position; 0: every patch is one position, as in Wan."""
    kind: str = "dit"

    role: bool = True
    """Ablation: tokens say whether they are target or condition."""
    modality_patchify: bool = True
    """Ablation: a patchify of its own for every modality."""
    slot_axis: bool = True
    """Ablation: the position code has a modality axis."""
    full_attention: bool = True
    """Ablation: attention in both directions, not causal."""
    visible_code: bool = True
    """Ablation: the condition code says which modalities are visible."""
    dense: bool = False
    """Ablation: air has tokens too."""

    null_text: bool = False
    """Prior: a vector a block, what cross-attention to an empty text added."""
    compose: bool = False
    """Prior: the slot axis turns with, not instead of, the slowest temporal pairs."""
    fixed_slots: bool = False
    """Prior: a modality keeps its slot in every role (dose is 0)."""

    sigma_data: float = 0.0
    """How far, in model range, a target is known from its conditions: the network then estimates the data and
    noise is weighed in (`path.velocity_of_estimate`); 0: the read-out is v itself."""
    co_located: bool = False
    """The target's tokens start with the sum of all tokens of the same block, so that attention need not find
    first what lies where the target is; among modalities whose patches are as large as the target's."""
    plate_read_out: bool = False
    """The dose has a second read-out: weights of the beams' plates (`read_out.PlateReadOut`)."""
    head_width: int = 0
    """Channels of convolutions behind the tokens, on the latent grid (`read_out.ConvolutionalHead`); 0:
    none."""
    head_blocks: int = 2
    """Residual blocks of two convolutions each in that head."""

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Latent sizes must be multiples of this, along (z, y, x)."""
        d, h, w = (max(sizes) for sizes in zip(*(edges(p) for _, p in self.patch), strict=True))
        return d, h, w

    def build(self, channels: Mapping[str, int], codec: Codec) -> DiT:
        """The network. Raises ValueError for patches of several slices where the codec repeats one, and for a
        read-out of plates where the codec does not show them."""
        if lead(codec) and self.multiple[0] > 1:
            raise ValueError(f"codec {codec.spec} repeats a slice: patches of depth 1 are needed")
        if self.plate_read_out and not is_voxelwise(codec):
            raise ValueError(f"plate_read_out: codec {codec.spec} shows no plates; identity:N does")
        return DiT(self, channels, codec.stride)


class Block(nn.Module):
    """x += gate Attention(modulated norm x); x += gate FFN(modulated norm x); q and k normed over all
    heads."""

    def __init__(self, c: DiTConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.modulation = nn.Parameter(torch.randn(1, 6, c.dim) / c.dim**0.5)
        self.q, self.k, self.v, self.o = (nn.Linear(c.dim, c.dim) for _ in range(4))
        self.norm_q, self.norm_k = (nn.RMSNorm(c.dim, eps=1e-6) for _ in range(2))
        self.ffn = nn.Sequential(
            nn.Linear(c.dim, c.ffn), nn.GELU(approximate="tanh"), nn.Linear(c.ffn, c.dim)
        )
        self.ctx_bias = nn.Parameter(torch.zeros(c.dim)) if c.null_text else None

    def forward(self, x: Tensor, e6: Tensor, phases: Tensor, mask: Tensor | None) -> Tensor:
        """x (n, l, dim), e6 (n, 6, dim), phases (n, 1, l, head_dim / 2), mask (n, 1, 1 or l, l) or None."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + e6).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attend(modulate(x, shift1, scale1), phases, mask)
        x = x if self.ctx_bias is None else x + self.ctx_bias
        change: Tensor = self.ffn(modulate(x, shift2, scale2))
        return x + gate2 * change

    def attend(self, x: Tensor, phases: Tensor, mask: Tensor | None) -> Tensor:
        """Self-attention over all tokens."""
        q, k, v = (
            rearrange(y, "n l (a e) -> n a l e", a=self.heads)
            for y in (self.norm_q(self.q(x).float()), self.norm_k(self.k(x).float()), self.v(x))
        )
        y = F.scaled_dot_product_attention(
            rotate(q, phases).to(v), rotate(k, phases).to(v), v, attn_mask=mask
        )
        out: Tensor = self.o(rearrange(y, "n a l e -> n l (a e)"))
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, scaled and shifted, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class DiT(VoxelNetwork):
    """channels: {modality: latent channels}; stride: voxels along a latent voxel's edges."""

    adapted = r"backbone\.blocks\.\d+\.(q|k|v|o|ffn\.0|ffn\.2)"  # attention and MLP

    def __init__(self, config: DiTConfig, channels: Mapping[str, int], stride: Edges) -> None:
        super().__init__()
        c, self.names = config, tuple(channels)
        self.config, self.stride, self.patch = config, stride, dict(config.patch)
        self.channels = dict(channels)
        sizes = {name: channels[name] * math.prod(edges(self.patch[name])) for name in self.names}
        shared = nn.Linear(max(sizes.values()), c.dim) if not c.modality_patchify else None
        self.embed = nn.ModuleDict({name: shared or nn.Linear(f, c.dim) for name, f in sizes.items()})
        self.domain = nn.Parameter(0.02 * torch.randn(len(self.names), c.dim))
        self.role = nn.Parameter(0.02 * torch.randn(2, c.dim))
        self.time = nn.Sequential(nn.Linear(256, c.dim), nn.SiLU(), nn.Linear(c.dim, c.dim))
        self.condition = nn.Linear(2 * len(self.names), c.dim, bias=False)
        self.project = nn.Linear(c.dim, 6 * c.dim)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.head_modulation = nn.Parameter(torch.randn(1, 2, c.dim) / c.dim**0.5)
        heads = {name: nn.Linear(c.dim, f) for name, f in sizes.items()}
        for layer in (self.condition, *heads.values()):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.head = nn.ModuleDict(heads)
        self.plates = PlateReadOut(c.dim) if c.plate_read_out else None
        self.convolve = (
            ConvolutionalHead(c.dim, channels, c.head_width, c.head_blocks, c.dim) if c.head_width else None
        )
        head_dim = c.dim // c.heads
        slots = head_dim // 16 if c.slot_axis else 0
        theta = 100.0 if head_dim >= 128 else 10.0  # slower, and slot 6 would look like slot 0 (2 pi)
        table = rope_frequencies(head_dim, slots, theta_slot=theta, compose=c.compose)
        self.frequencies: Tensor
        self.register_buffer("frequencies", table, persistent=False)

    def forward(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor,
    ) -> Tensor:
        """latents: {modality: (n, c, d, h, w)}, the target's noised; times: their t (n,), 0 for conditions;
        spacing_mm: (n, 3) voxels along (x, y, z); body: (n, 1, d, h, w). Returns v of the target (n, c, d, h,
        w), zero in blocks that are no tokens."""
        noisy, t = latents[target], times[target]
        if self.config.sigma_data:  # pure noise says nothing: at t = 1 none enters
            latents = {**latents, target: noisy * alpha_sigma(t)[0][:, None, None, None, None]}
        order = (target, *(name for name in self.names if name in latents and name != target))
        tokens = {
            m: pack(latents[m], body, self.patch[m], self._voxel_mm(spacing_mm, m), self.config.dense)
            for m in order
        }
        parts = {m: self._embed(m, tokens[m], is_target=m == target) for m in order}
        if self.config.co_located:
            parts[target] = self._sum_in_place(parts, target)
        x = torch.cat(list(parts.values()), dim=1)
        unit_mm = self.config.unit_mm or 1.0
        phases = rope_phases(list(tokens.values()), self._slots(order), self.frequencies, unit_mm)
        wanted = tokens[target].features.shape[1]
        mask = self._mask(torch.cat([t.valid for t in tokens.values()], dim=1), wanted)
        with torch.autocast(x.device.type, enabled=False):
            e = self.time(sinusoid(times[target], 256)) + self.condition(self._code(times, target))
            e6 = self.project(F.silu(e)).unflatten(1, (6, -1))
        for block in self.blocks:
            x = self.run(block, x, e6, phases, mask)
        shift, scale = (self.head_modulation + e[:, None]).unsqueeze(2).unbind(1)
        features = modulate(x[:, :wanted], shift, scale)
        out = self._read_out(features, tokens[target], latents, target, e, body)
        return velocity_of_estimate(out, noisy, t, self.config.sigma_data) if self.config.sigma_data else out

    def _read_out(
        self,
        features: Tensor,
        tokens: Patches,
        latents: Mapping[str, Tensor],
        target: str,
        code: Tensor,
        body: Tensor,
    ) -> Tensor:
        """The target (n, c, d, h, w) from the features (n, l, dim) of its tokens: the free read-out, what the
        beams' plates hold and what convolutions add."""
        p = self.patch[target]
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would quantise the dose
            out = unpack(self.head[target](features), tokens, p)
            if self.plates is not None and target == "dose" and "beam" in latents:
                out = out + 1 - self.plates(features, tokens, p, latents["beam"])
        if self.convolve is None:
            return out
        context = interpolate(self.convolve.context(features).float(), tokens, p)
        where = self.region(body, target)[:, 0]
        added: Tensor = self.convolve(context, out, latents, target, code, where)
        return out + added

    def _sum_in_place(self, parts: Mapping[str, Tensor], target: str) -> Tensor:
        """The sum of all tokens of the same block, among modalities whose patches are as large as the
        target's."""
        total = parts[target]
        for name, x in parts.items():
            if name != target and self.patch[name] == self.patch[target]:
                total = total + x
        return total

    @property
    def blind_at_one(self) -> bool:
        """Whether noise has no say at t = 1."""
        return self.config.sigma_data > 0

    def region(self, body: Tensor, target: str) -> Tensor:
        """Every token that touches the body; with convolutions the body alone, unless it is wanted."""
        if self.config.head_width and target != "body":
            return body
        blocks = kept_blocks(body, self.patch[target]).float()
        return F.interpolate(blocks, size=body.shape[2:], mode="nearest") > 0

    def places(self) -> Sequence[Place]:
        """Embeddings, read-outs and the convolutions' ends."""
        own = self.config.modality_patchify
        found = []
        for name, count in self.channels.items():
            where = in_turn({name: count}, every=math.prod(edges(self.patch[name])))
            found += [Place(f"embed.{name}.weight", 1, where)] if own else []
            found += [Place(f"head.{name}.{leaf}", 0, where) for leaf in ("weight", "bias")]
            if self.convolve is not None:
                alone = in_turn({name: count})
                found.append(Place(f"convolve.estimate.{name}.weight", 1, alone))
                found += [Place(f"convolve.read_out.{name}.{leaf}", 0, alone) for leaf in ("weight", "bias")]
        if self.convolve is not None:
            found.append(Place("convolve.slots.weight", 1, in_turn(self.channels)))
        return found

    def _voxel_mm(self, spacing_mm: Tensor, name: str) -> Tensor:
        """(n, 3) edges of a latent voxel along (z, y, x); where positions count patches, a patch has edge
        1."""
        if self.config.unit_mm:
            return spacing_mm.flip(1) * torch.tensor(edges(self.stride), device=spacing_mm.device)
        return (1 / torch.tensor(edges(self.patch[name]), device=spacing_mm.device)).expand_as(spacing_mm)

    def _slots(self, order: Sequence[str]) -> Sequence[int]:
        """The slot of each modality: target 0, conditions as they come, or the last in the table 0."""
        count = len(self.names)
        fixed = [(self.names.index(m) + 1) % count for m in order]
        return fixed if self.config.fixed_slots else range(len(order))

    def _embed(self, name: str, patches: Patches, is_target: bool) -> Tensor:
        layer, features = self.embed[name], patches.features
        assert isinstance(layer, nn.Linear)
        x: Tensor = layer(F.pad(features, (0, layer.in_features - features.shape[-1])))
        role = self.role[int(is_target)] if self.config.role else 0.0
        return x.float() + self.domain[self.names.index(name)] + role

    def _code(self, times: Mapping[str, Tensor], target: str) -> Tensor:
        visible = torch.tensor([float(m in times and self.config.visible_code) for m in self.names])
        wanted = torch.tensor([float(m == target and self.config.role) for m in self.names])
        return torch.cat([visible, wanted]).to(times[target].device).expand(len(times[target]), -1)

    def _mask(self, valid: Tensor, wanted: int) -> Tensor | None:
        """Which keys may be attended: no padding, and nothing later where attention is causal. There the
        target's tokens, the first `wanted`, come last: they see every condition, and none sees them."""
        length = valid.shape[1]
        mask = None if bool(valid.all()) else valid[:, None, None, :]
        if not self.config.full_attention:
            rank = (torch.arange(length, device=valid.device) - wanted) % length
            causal = rank[:, None] >= rank
            mask = causal if mask is None else mask & causal
        return mask
