"""What became of the structures of a whole cohort: which organs are drawn, which share a channel, which are
left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST_SHOWN = 60  # names in one line


@dataclass
class Account:
    """Counted over cases, from the rows of `table.rows`."""

    cases: int = 0
    """Of them."""
    drawn: Counter[str] = field(default_factory=Counter)
    """Organ -> cases that have it."""
    merged: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    """(organ, structures of one case that are drawn in its channel together) -> cases."""
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(structure, why it is not drawn) -> cases."""

    def add(self, rows: Sequence[Mapping[str, str]], organs: Sequence[str]) -> None:
        """Count one case. organs: the channels."""
        self.cases += 1
        places: dict[str, list[str]] = {}
        for row in rows:
            if row["channel"] == "ignored":
                self.left_out[row["roi"], row["why"]] += 1
            elif row["channel"] in organs:
                places.setdefault(row["channel"], []).append(row["roi"])
        self.drawn.update(places.keys())
        self.merged.update((organ, tuple(sorted(rois))) for organ, rois in places.items() if len(rois) > 1)

    def lines(self, organs: Sequence[str]) -> list[str]:
        """The account for a terminal. organs: the channels, of which those that no case has are named."""
        of = f"of {self.cases} cases"
        drawn = [f"{organ} {self.drawn[organ]}" for organ in organs if self.drawn[organ]]
        absent = [organ for organ in organs if not self.drawn[organ]]
        merged = [f"{' + '.join(rois)} -> {organ} {n}" for (organ, rois), n in self.merged.most_common()]
        left_out = [f"{roi} {n} ({why})" for (roi, why), n in self.left_out.most_common()]
        parts = {
            f"drawn, {of}": drawn,
            "drawn, in no case": absent,
            "merged": merged,
            "left out": left_out,
        }
        return [f"{label}: {_listed(names)}" for label, names in parts.items() if names]


def account(cases: Iterable[Sequence[Mapping[str, str]]], organs: Sequence[str]) -> Account:
    """The account of many cases."""
    found = Account()
    for rows in cases:
        found.add(rows, organs)
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
