"""What became of every structure of a case: a table to print and to store, and sentences that warn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anydose.case.naming.evidence import ORGANS
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary

REMEDY = "say what they are with --name 'ROI=Parotid_L' or a file by `anydose names STUDY --save clinic.yaml`"
MOST_SHOWN = 12  # structures in one sentence


def rows(
    naming: Iterable[Meaning], levels_gy: Mapping[str, float], vocabulary: Vocabulary = HEAD_NECK
) -> list[dict[str, str]]:
    """One row a structure: roi, tg263, role, channel (of the network's input, or 'ignored'), why.

    Args:
        naming: the meanings of a case's structures (`Case.naming`).
        levels_gy: target -> its prescribed dose in Gy.
        vocabulary: the organ channels of the model.
    """
    return [
        {
            "roi": meaning.roi,
            "tg263": meaning.tg263,
            "role": meaning.role,
            "channel": _channel(meaning, levels_gy, vocabulary),
            "why": meaning.derived or meaning.why,
        }
        for meaning in naming
    ]


def _channel(meaning: Meaning, levels_gy: Mapping[str, float], vocabulary: Vocabulary) -> str:
    if meaning.roi in levels_gy:
        return f"target {levels_gy[meaning.roi]:g} Gy"
    if meaning.role == "body":
        return "body"
    place = vocabulary.channel(meaning)
    return "ignored" if place is None else vocabulary.organs[place]


def lines(table: Sequence[Mapping[str, str]]) -> list[str]:
    """The table in one or two lines for the screen: what was read under another name, and what was
    ignored."""
    used = [row for row in table if row["channel"] != "ignored" and row["roi"] != row["tg263"]]
    taken = [f"{row['roi']} -> {row['tg263'] or row['role']}{_beside(row)}" for row in used]
    ignored = [f"{row['roi']} ({row['why']})" for row in table if row["channel"] == "ignored"]
    said = {"structures": taken, "ignored": ignored}
    return [f"{label}: {', '.join(parts)}" for label, parts in said.items() if parts]


def _beside(row: Mapping[str, str]) -> str:
    return "" if row["channel"] in (row["tg263"], "body") else f" [{row['channel']}]"


def warnings(naming: Sequence[Meaning], levels_gy: Mapping[str, float]) -> list[str]:
    """Sentences for what may cost dose: an organ or a structure whose name is not understood, two
    structures that
    mean the same organ, and a prescription to a structure that is no whole target by its name."""
    states_types = any(meaning.kind for meaning in naming)
    lost = [
        m
        for m in naming
        if m.role == "unknown" and (m.kind in ORGANS or not states_types) and not _gets(m, levels_gy)
    ]
    found = []
    if lost:
        listed = _listed([f"{m.roi!r} ({m.why})" for m in lost])
        what = "ORGAN structures" if states_types else "structures"
        found.append(f"{what} left out, as it is not certain what they are: {listed}; {REMEDY}")
    odd = [m for m in naming if m.roi in levels_gy and m.role in ("derived", "oar", "unknown")]
    for meaning in odd if _has_target(naming) else ():
        what = meaning.derived or meaning.tg263 or meaning.why
        found.append(
            f"{meaning.roi!r} has a prescription of {levels_gy[meaning.roi]:g} Gy and counts as a target, "
            f"but its name "
            f"says otherwise ({what}); give the targets with --rx NAME=GY if it is none"
        )
    for tg263, rois in _doubles(naming).items():
        found.append(
            f"{' and '.join(map(repr, rois))} both mean {tg263} and are taken together; "
            f"leave one out with --name '{rois[-1]}=ignore'"
        )
    return found


def not_drawn(naming: Iterable[Meaning], vocabulary: Vocabulary) -> list[str]:
    """Sentences on the organs of a case that a model of this vocabulary cannot tell from others, or does not
    know at all."""
    organs = [meaning for meaning in naming if meaning.role == "oar"]
    places = {meaning.roi: vocabulary.channel(meaning) for meaning in organs}
    own = {meaning.roi for meaning in organs if meaning.tg263 in vocabulary.organs}
    together = [roi for roi, place in places.items() if place is not None and roi not in own]
    unknown = [roi for roi, place in places.items() if place is None]
    said = [(together, "drawn together, as the model has no channel for each")]
    said += [(unknown, "not shown, as the model does not know them")]
    return [f"organs {_listed(rois)}: {what}" for rois, what in said if rois]


def _has_target(naming: Sequence[Meaning]) -> bool:
    return any(meaning.role == "ptv" for meaning in naming)


def _gets(meaning: Meaning, levels_gy: Mapping[str, float]) -> bool:
    return meaning.roi in levels_gy


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_SHOWN
    return ", ".join(parts[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _doubles(naming: Iterable[Meaning]) -> dict[str, list[str]]:
    """TG-263 name of an organ -> the structures that mean it, where there are several."""
    found: dict[str, list[str]] = {}
    for meaning in naming:
        if meaning.role == "oar":
            found.setdefault(meaning.tg263, []).append(meaning.roi)
    return {tg263: rois for tg263, rois in found.items() if len(rois) > 1}
