"""A GPU that is none: tensors that say they lie on another device, hold their values on the CPU, and refuse
to be combined with a CPU's tensor, as CUDA does. It is called 'meta', which every torch knows."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from anydose.model import looks

GPU = torch.device("meta")
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}


class OnGpu(torch.Tensor):
    """A tensor of the pretended device; `held` are its values."""

    @staticmethod
    def __new__(cls, held):
        like = {"dtype": held.dtype, "strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, device=GPU, **like)

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})

    def tolist(self):
        """As of a GPU's tensor: its values come over."""
        return self.held.tolist()

    def __repr__(self):
        return f"OnGpu({self.held})"


def computed(func, args, kwargs):
    """An operation on both kinds: the result lies where its operands do, or where `device` says."""
    flat = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, torch.Tensor)]
    on_gpu = [t for t in flat if isinstance(t, OnGpu)]
    plain = [t for t in flat if not isinstance(t, OnGpu) and t.dim() > 0]
    by_index = func in INDEXED and isinstance(args[0], OnGpu)
    if on_gpu and plain and func not in MOVES and not by_index:
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device")
    asked = kwargs.get("device")
    goes_to_gpu = torch.device(asked) == GPU if asked is not None else bool(on_gpu)
    inner = {**kwargs, "device": "cpu"} if asked is not None else kwargs
    out = func(*tree_map(_held, args), **tree_map(_held, inner))
    if func._schema.name.endswith("_") and isinstance(args[0], torch.Tensor):
        return args[0]  # in place
    return tree_map(_on_gpu, out) if goes_to_gpu else out


def _held(leaf):
    return leaf.held if isinstance(leaf, OnGpu) else leaf


def _on_gpu(leaf):
    return OnGpu(leaf) if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnGpu) else leaf


class _Everywhere(TorchDispatchMode):
    """Operations that begin on the CPU: moves, and tensors that are made on the pretended device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def moved(model: nn.Module) -> nn.Module:
    """The model with its weights on the pretended GPU."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(OnGpu(p.detach()), p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = OnGpu(b)
    return model


@contextmanager
def pretended(monkeypatch):
    """The device is there; yields the device types that autocast was asked for."""
    asked, plain = [], torch.tensor

    @contextmanager
    def autocast(device_type, dtype=None, enabled=True, **_):
        if enabled:
            asked.append(device_type)
        yield

    def tensor(data, *, dtype=None, device=None):
        made = plain(data, dtype=dtype)
        return made if device is None else made.to(device)

    # inference mode knows no tensors of another class
    monkeypatch.setattr(looks, "sample_looks", torch.no_grad()(looks.sample_looks.__wrapped__))
    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    monkeypatch.setattr(torch, "tensor", tensor)
    with _Everywhere():
        yield asked
