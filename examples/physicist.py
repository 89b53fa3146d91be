"""A medical physicist: a DICOM study in, a dose, its DVH and a score out.

    python examples/physicist.py OUT

The study is a procedural patient, so that the example runs anywhere.
"""

import sys
from pathlib import Path

import anydose as ad
from anydose.io.phantom import write_phantom

out = Path(sys.argv[1])
write_phantom(seed=3, folder=out / "study", format="dicom")

case = ad.read_case(out / "study")
for sentence in case.inferred:
    print("inferred:", sentence)

prediction = ad.predict(case)
for row in prediction.to_rows():
    print(f"{row['structure']:20} mean {row['mean_gy']:5.1f} Gy, D95 {row['d95_gy']:5.1f} Gy")

prediction.save(out / "prediction")  # RTDOSE, NIfTI, DVH, page and run record, as the command writes them
print(ad.score(prediction, case))
