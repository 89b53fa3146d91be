"""Wan 2.1 T2V-1.3B's transformer as the Any2Any transformer, without its text branch.

One table holds every tensor of a block and of the whole under three names: ours, the original release's and
diffusers'. Every source tensor is used once or dropped by a row of the table; anything else is refused. What
cross-attention added for an empty text is a constant vector a block and is folded in: Wan pads the text with
zeros and masks nothing, so every key and value is that of c0 = W2 gelu(b1) + b2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.shards import Shape, Shards, account

PATCH = (1, 2, 2)
LARGEST = (1536, 30)  # width and blocks of the 1.3B
SCHEMES = ("original", "diffusers")


@dataclass(frozen=True)
class Row:
    """One layer or table. ours: its name in DiT, '' if it is dropped; shape: of its weight in the letters of
    `WanConfig.sizes`; leaves: its tensors ('' for a bare parameter)."""

    ours: str
    original: str
    diffusers: str
    shape: str
    leaves: tuple[str, ...] = ("weight", "bias")

    def tensors(self, scheme: str, sizes: dict[str, int]) -> Iterator[tuple[str, str, Shape]]:
        """(ours or '', source name, shape) of each of its tensors."""
        whole = tuple(sizes[letter] for letter in self.shape)
        for leaf in self.leaves:
            tail = f".{leaf}" if leaf else ""
            ours = self.ours and self.ours + tail
            yield ours, getattr(self, scheme) + tail, whole[:1] if leaf == "bias" else whole


WEIGHT, BARE = ("weight",), ("",)
CODE = "condition_embedder"
WHOLE = (
    Row("patch", "patch_embedding", "patch_embedding", "dc122"),
    Row("time.0", "time_embedding.0", f"{CODE}.time_embedder.linear_1", "dq"),
    Row("time.2", "time_embedding.2", f"{CODE}.time_embedder.linear_2", "dd"),
    Row("project", "time_projection.1", f"{CODE}.time_proj", "sd"),
    Row("", "text_embedding.0", f"{CODE}.text_embedder.linear_1", "dt"),
    Row("", "text_embedding.2", f"{CODE}.text_embedder.linear_2", "dd"),
    Row("head_modulation", "head.modulation", "scale_shift_table", "12d", BARE),
    Row("head", "head.head", "proj_out", "od"),
)
BLOCK = (
    Row("modulation", "modulation", "scale_shift_table", "16d", BARE),
    *(Row(k, f"self_attn.{k}", f"attn1.to_{k}", "dd") for k in "qkv"),
    Row("o", "self_attn.o", "attn1.to_out.0", "dd"),
    *(Row(f"norm_{k}", f"self_attn.norm_{k}", f"attn1.norm_{k}", "d", WEIGHT) for k in "qk"),
    *(Row("", f"cross_attn.{k}", f"attn2.to_{k}", "dd") for k in "qkv"),
    Row("", "cross_attn.o", "attn2.to_out.0", "dd"),
    *(Row("", f"cross_attn.norm_{k}", f"attn2.norm_{k}", "d", WEIGHT) for k in "qk"),
    Row("", "norm3", "norm2", "d"),  # the affine norm before cross-attention; the two number them differently
    Row("ffn.0", "ffn.0", "ffn.net.0.proj", "fd"),
    Row("ffn.2", "ffn.2", "ffn.net.2", "df"),
)


@dataclass(frozen=True)
class WanConfig:
    """The sizes of a Wan 2.1 text-to-video transformer; the defaults are the 1.3B's."""

    dim: int = 1536
    blocks: int = 30
    heads: int = 12
    ffn: int = 8960
    channels: int = 16
    text: int = 4096
    frequencies: int = 256

    @property
    def sizes(self) -> dict[str, int]:
        """What the letters of the table's shapes stand for."""
        letters = {"d": self.dim, "f": self.ffn, "c": self.channels, "t": self.text, "q": self.frequencies}
        return letters | {"s": 6 * self.dim, "o": 4 * self.channels} | {k: int(k) for k in "126"}

    def tensors(self, scheme: str) -> Iterator[tuple[str, str, Shape]]:
        """(our name or '', source name, shape) of every tensor in the key scheme 'original' or
        'diffusers'."""
        for row in WHOLE:
            yield from row.tensors(scheme, self.sizes)
        for n in range(self.blocks):
            for row in BLOCK:
                for ours, source, shape in row.tensors(scheme, self.sizes):
                    yield ours and f"blocks.{n}.{ours}", f"blocks.{n}.{source}", shape


def read_config(folder: Path) -> WanConfig:
    """The sizes in config.json of either release. ValueError if it is missing or of a network that this is
    not: image-to-video, another Wan generation, or larger than the 1.3B."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no config.json; that of Wan 2.1 T2V-1.3B's transformer is needed")
    try:
        c = json.loads(path.read_text())
        theirs = c.get("_class_name") == "WanTransformer3DModel"
        if not theirs and c.get("_class_name") != "WanModel":
            raise ValueError(f"{path}: {c.get('_class_name')} found, Wan's transformer is needed")
        config = _diffusers_config(c) if theirs else _original_config(c)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no config of Wan 2.1 ({type(error).__name__}: {error})") from error
    fixed = {"patch_size": [1, 2, 2], "eps": 1e-6, "cross_attn_norm": True, "image_dim": None}
    fixed |= {"added_kv_proj_dim": None, "pos_embed_seq_len": None, "model_type": "t2v"}
    fixed |= {"qk_norm": "rms_norm_across_heads" if theirs else True, "out_channels": config.channels}
    fixed |= {"out_dim": config.channels, "freq_dim": 256}
    for key, value in fixed.items():
        if c.get(key, value) != value:
            raise ValueError(f"{path}: {key} {c[key]} found, {value} is needed (Wan 2.1 T2V-1.3B)")
    if config.dim > LARGEST[0] or config.blocks > LARGEST[1]:
        raise ValueError(
            f"{path}: {config.blocks} blocks of width {config.dim} found (another Wan); at most {LARGEST[1]} "
            f"of width {LARGEST[0]} are needed (Wan 2.1 T2V-1.3B)"
        )
    return config


def _diffusers_config(c: dict[str, int]) -> WanConfig:
    dim = c["num_attention_heads"] * c["attention_head_dim"]
    return WanConfig(
        dim, c["num_layers"], c["num_attention_heads"], c["ffn_dim"], c["in_channels"], c["text_dim"]
    )


def _original_config(c: dict[str, int]) -> WanConfig:
    text = c.get("text_dim", WanConfig.text)
    return WanConfig(c["dim"], c["num_layers"], c["num_heads"], c["ffn_dim"], c["in_dim"], text)


@dataclass(frozen=True)
class WanFiles:
    """A transformer's folder with every name accounted for. sources: {our tensor: theirs}; dropped: theirs
    that are only folded."""

    config: WanConfig
    shards: Shards
    scheme: str
    prefix: str
    sources: dict[str, str]
    dropped: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor:
        """A tensor by its name in the original release, in float32."""
        places = {o[1]: s[1] for o, s in zip(*(self.config.tensors(k) for k in SCHEMES), strict=True)}
        return self.shards[self.prefix + (name if self.scheme == "original" else places[name])].float()


def open_files(folder: Path) -> WanFiles:
    """Open DIR or DIR/transformer in either key scheme. ValueError for a changed config, and unless its
    tensors are exactly those that the config asks for."""
    place = folder / "transformer" if (folder / "transformer").is_dir() else folder
    config, shards = read_config(place), Shards(place)
    prefix = "model.diffusion_model."
    prefix = prefix if all(name.startswith(prefix) for name in shards.shapes) else ""
    scheme = SCHEMES[int(f"{prefix}blocks.0.attn1.to_q.weight" in shards.shapes)]
    rows = [(ours, prefix + name, shape) for ours, name, shape in config.tensors(scheme)]
    account({name: shape for _, name, shape in rows}, shards.shapes, str(place))
    sources = {ours: name for ours, name, _ in rows if ours}
    return WanFiles(
        config, shards, scheme, prefix, sources, tuple(name for ours, name, _ in rows if not ours)
    )


def dit_config(config: WanConfig, modalities: tuple[str, ...], **changes: object) -> DiTConfig:
    """The transformer that takes these weights; `changes` of it, e.g. compose=True."""
    settings = {"patch": tuple((m, PATCH) for m in modalities), "unit_mm": 0.0, "null_text": True}
    settings |= {"dim": config.dim, "depth": config.blocks, "heads": config.heads, "ffn": config.ffn}
    return DiTConfig(**{**settings, "fixed_slots": True, **changes})  # type: ignore[arg-type]


NEW = ("domain", "role", "condition.weight")  # zero at the start: with one slot the model is Wan


@torch.no_grad()
def load_into(model: DiT, files: WanFiles) -> dict[str, tuple[str, ...]]:
    """Put a prior's weights into a transformer made by `dit_config`: {'used', 'dropped': source names, 'new':
    ours that start at zero}. Patch embedding and read-out are copied to every modality; the channels of a
    modality with several share the embedding evenly. ValueError if the transformer is not of its shape."""
    state, filled = model.state_dict(), set[str](NEW)
    for ours, source in files.sources.items():
        tensor = files.shards[source].float()
        for name, value in _placed(model, ours, tensor, files.config.channels):
            if name not in state or state[name].shape != value.shape:
                raise ValueError(f"tensor {name}: the transformer has another shape; dit_config is needed")
            state[name].copy_(value)
            filled.add(name)
    for n in range(files.config.blocks if model.config.null_text else 0):
        state[f"blocks.{n}.ctx_bias"].copy_(null_text(files, n))
        filled.add(f"blocks.{n}.ctx_bias")
    for name in NEW:
        state[name].zero_()
    if left := set(state) - filled:
        raise ValueError(f"tensor {min(left)}: no weight of the prior belongs there; dit_config is needed")
    return {"used": tuple(files.sources.values()), "dropped": files.dropped, "new": NEW}


def _placed(model: DiT, ours: str, tensor: Tensor, channels: int) -> Iterator[tuple[str, Tensor]]:
    """(name in DiT, value) of one source tensor: the same for most, one a modality for the two ends."""
    end, _, leaf = ours.partition(".")
    if end not in ("patch", "head"):
        yield ours, tensor
        return
    name = "embed" if end == "patch" else "head"
    for m, layer in getattr(model, name).items():
        features = layer.in_features if end == "patch" else layer.out_features
        copies = features // (4 * channels)
        if end == "patch":
            value = tensor.flatten(1).repeat(1, copies) / copies if leaf == "weight" else tensor
        else:  # theirs are ordered (i j k c), ours (c i j k)
            value = rearrange(tensor, "(i c) ... -> (c i) ...", c=channels)
            value = value.repeat(copies, *(1,) * (value.ndim - 1))
        yield f"{name}.{m}.{leaf}", value


def null_text(files: WanFiles, block: int) -> Tensor:
    """What a block's cross-attention adds to every token for an all-zero text: Wo (Wv c0 + bv) + bo."""
    c0 = F.gelu(files["text_embedding.0.bias"], approximate="tanh")
    c0 = files["text_embedding.2.weight"] @ c0 + files["text_embedding.2.bias"]
    at = f"blocks.{block}.cross_attn"
    value = files[f"{at}.v.weight"] @ c0 + files[f"{at}.v.bias"]
    return files[f"{at}.o.weight"] @ value + files[f"{at}.o.bias"]
