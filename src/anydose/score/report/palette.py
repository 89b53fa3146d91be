"""Colours and dashes of structures, for readers with and without colour vision.

Any two of the nine colours differ by at least 15 (CIEDE2000), also as a reader with deuteranopia sees them
(Machado et al., IEEE TVCG 15, 2009), and all are light enough for a CT and dark enough for paper. Dashes are
a second sign: they tell apart what has a colour again."""

from __future__ import annotations

from anydose.case.case import Case

TARGETS = ("#d42a2a", "#ffbf00", "#bf2a80")
OTHERS = ("#00aaff", "#2a8055", "#ffaabf", "#006abf", "#6abf6a", "#40d4d4")
BODY = "#9aa4b0"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def shades(case: Case) -> dict[str, tuple[str, str]]:
    """(colour, dash) of every structure: targets first, from the highest prescription down."""
    targets = sorted(case.targets, key=lambda name: -case.prescription.levels_gy[name])
    bodies = case.of_role("body")
    others = [name for name in case.structures if name not in targets and name not in bodies]
    found = {}
    for names, colours in ((targets, TARGETS), (others, OTHERS)):
        for number, name in enumerate(names):
            lap, place = divmod(number, len(colours))
            found[name] = (colours[place], DASHES[(place + lap) % len(DASHES)])
    return found | dict.fromkeys(bodies, (BODY, "solid"))
