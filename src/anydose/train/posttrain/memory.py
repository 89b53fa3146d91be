"""How much memory post-training of a transformer takes, by arithmetic from one measured block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anydose.model.lora import add_lora
from anydose.model.network.dit import Block, DiTConfig

FLOAT32, BFLOAT16 = 4, 2  # bytes
VERSIONS = 4  # of what learns: live, base, old, averaged
GIGABYTE = 1e9


def saved_bytes_per_token(config: DiTConfig, rank: int, tokens: int = 64) -> float:
    """Bytes that one block keeps for its backward pass, a token, under bfloat16 autocast with adapters of
    this rank: measured, on a block of the real width. Weights and their bfloat16 copies are left out, as they
    do not grow with the tokens: the difference of two counts of tokens is taken."""
    block = Block(config).requires_grad_(False)
    add_lora(block, rank, targets=r"(q|k|v|o|ffn\.0|ffn\.2)")
    few, many = (_saved_bytes(block, config, count) for count in (tokens, 2 * tokens))
    return (many - few) / tokens


def _saved_bytes(block: nn.Module, config: DiTConfig, tokens: int) -> int:
    """Bytes of all tensors, each storage once, that the forward pass keeps."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(1, tokens, config.dim, requires_grad=True)
    e6 = torch.randn(1, 6, config.dim)
    phases = torch.randn(1, 1, tokens, config.dim // config.heads // 2)
    held = []  # the output keeps the graph, and so every storage's address, until all are counted
    counting = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with counting, torch.autocast("cpu", torch.bfloat16):
        held.append(block(x, e6, phases, None))
    return sum(storages.values())


@dataclass(frozen=True)
class Memory:
    """Gigabytes that one process needs, by what for."""

    weights: float
    """The frozen network, in float32, and the merged copy of its adapted layers while it samples."""
    learning: float
    """Adapters: VERSIONS of them, gradients and two moments, in float32."""
    activations: float
    """Kept for the backward pass, with the block that is being recomputed."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.learning + self.activations


def needed(config: DiTConfig, rank: int, tokens: int, rows: int = 2, checkpointing: bool = True) -> Memory:
    """Memory of one learning step. tokens: of one patient, all modalities; rows: evaluated together with a
    gradient (a candidate and the reference dose). Candidates are sampled without a gradient, a few at a time,
    so their number K costs time and no memory: their latents are small."""
    layers = 4 * config.dim * config.dim + 2 * config.dim * config.ffn  # of a block
    modulation = 6 * config.dim * config.dim  # outside the blocks, learns whole
    adapters = rank * (4 * 2 * config.dim + 2 * (config.dim + config.ffn))
    learning = (config.depth * adapters + modulation) * FLOAT32 * (VERSIONS + 3)
    weights = 2 * config.depth * layers * FLOAT32
    block = saved_bytes_per_token(config, rank)
    kept = config.dim * FLOAT32  # the input of a block
    a_token = config.depth * kept + block if checkpointing else config.depth * block
    copies = layers * BFLOAT16 * (1 if checkpointing else config.depth)
    activations = rows * tokens * a_token + copies
    return Memory(weights / GIGABYTE, learning / GIGABYTE, activations / GIGABYTE)
