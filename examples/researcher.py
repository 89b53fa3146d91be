"""A researcher: patients of one's own, a training, a resumed training and an evaluation.

    python examples/researcher.py OUT

The cohort is three procedural patients whose doses the shipped model made. Ten steps learn nothing: the point
is the way there. No beams could deliver what such a network gives, so it is not drawn towards what they can.
"""

import sys
from dataclasses import replace
from pathlib import Path

import anydose as ad
from anydose.io.phantom import make_phantom
from anydose.io.store import names, read_stored, write_stored
from anydose.train import recipes
from anydose.train.data import render
from anydose.train.trainer import Trainer

out = Path(sys.argv[1])
shipped = ad.load_model("compact-hn")
for seed in range(3):
    case = make_phantom(seed)
    case = replace(case, dose=ad.predict(case, shipped, ad.Options(looks=1)).dose)
    write_stored(case, out / "cohort", f"pt_{seed}")

places = [out / "cohort" / name for name in names(out / "cohort")]
render(read_stored, places, out / "rendered")

recipe = recipes.resolve(
    "budget-unet",
    [
        f"data={out / 'rendered'}",
        f"out={out / 'runs'}",
        "name=mine",
        "steps=10",
        "model.backbone.widths=[8,16]",
        "model.backbone.down_blocks=[1,1]",
        "model.backbone.up_blocks=[1]",
    ],
)
for step in Trainer(recipe).run():
    print(f"step {step.step}: loss {step.metrics['loss']:.3f}")

trained = ad.load_model(out / "runs" / "mine" / "model.safetensors")
for place in places:
    case = read_stored(place)
    prediction = ad.predict(replace(case, dose=None), trained, ad.Options(mimic=False))
    error = abs(prediction.dose.array - case.dose.array)[case.body].mean()
    print(f"{case.name}: mean absolute error {error:.2f} Gy in the body")
