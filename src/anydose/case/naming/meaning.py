"""What a structure's name means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """One structure: what it is, and how that is known."""

    roi: str
    """The name as the source spells it."""
    tg263: str = ""
    """TG-263's name: Parotid_L, PTV_High, Parotid_L-PTV; '' where there is none or nothing is certain."""
    role: str = "unknown"
    """'oar', 'ptv', 'ctv', 'gtv', 'body', 'support', 'derived' (made from other structures) or 'unknown'."""
    side: str = ""
    """'L', 'R' or ''."""
    derived: str = ""
    """Why it counts as made from other structures; '' for what it does not."""
    of: str = ""
    """TG-263's name of what a derived structure was made from, where that is known."""
    why: str = ""
    """How it was read, or why it was not understood."""
    level_gy: float | None = None
    """The dose in Gy that a target's name states."""
    source: str = "name"
    """Where the meaning comes from: 'name', 'type' (the RTSTRUCT's), 'code' (the RTSTRUCT's) or 'clinic'."""
    kind: str = ""
    """The RTSTRUCT's RTROIInterpretedType, or ''."""

    @property
    def is_certain(self) -> bool:
        """False where a person has to say what the structure is."""
        return self.role != "unknown"
