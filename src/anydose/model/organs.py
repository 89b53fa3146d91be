"""A model for other organs: what it learned of an organ that both vocabularies know stays, new organs start
at nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from anydose.model.any2any import Any2Any
from anydose.model.network.backbone import Place


@torch.no_grad()
def with_organs(model: Any2Any, organs: Sequence[str]) -> Any2Any:
    """The model with a channel for each of `organs`; itself if it has these already. Weights of organs that
    it knew are kept; those of new ones are zero, so that a new organ changes no dose before it is learned.

    Raises:
        ValueError: the backbone does not say where the channels of a modality lie in its weights, or the
            model sees organs as levels, which mean others once their number changes.
    """
    if tuple(organs) == model.config.organs:
        return model
    if model.config.organs_as == "levels":
        raise ValueError(f"{model.named}: the levels of its organs are settled by its first training")
    made = Any2Any(replace(model.config, organs=tuple(organs)))
    made.codec, made.file = model.codec, model.file
    made.trained_for, made.was_trained = model.trained_for, model.was_trained
    ours, theirs = made.backbone.state_dict(), model.backbone.state_dict()
    former = {place.tensor: place for place in model.backbone.places()}
    places = {place.tensor: place for place in made.backbone.places()}
    for name, value in ours.items():
        if name in places:
            _fill(
                value,
                places[name],
                theirs[name],
                former[name],
                _kept(made, model),
                made.codec.latent_channels,
            )
        elif value.shape == theirs[name].shape:
            value.copy_(theirs[name])
        else:
            kind = model.config.backbone.kind
            raise ValueError(f"{model.named}: the organs of a {kind} are settled by its first training")
    return made.to(next(model.parameters()).device).train(model.training)


def _kept(made: Any2Any, model: Any2Any) -> list[tuple[int, int]]:
    """(channel now, channel before) of the organs that both know."""
    before = model.config.organs
    return [(now, before.index(organ)) for now, organ in enumerate(made.config.organs) if organ in before]


def _fill(
    ours: Tensor, place: Place, theirs: Tensor, former: Place, kept: list[tuple[int, int]], each: int
) -> None:
    """Fill a tensor with the weights of the channels that both models have, and zero where there are none."""
    to, source = ours.zero_().movedim(place.axis, 0), theirs.movedim(former.axis, 0).to(ours)
    for name, now in place.channels.items():
        before = former.channels[name]
        if name != "oar":
            both = min(len(now), len(before))
            to[now[:both].flatten()] = source[before[:both].flatten()]
            continue
        for k, j in kept:
            to[_organ(now, k, each)] = source[_organ(before, j, each)]


def _organ(where: Tensor, number: int, each: int) -> Tensor:
    """The places of one organ of `each` latent channels."""
    return where[number * each : (number + 1) * each].flatten()
