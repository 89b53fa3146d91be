"""The words a structure name is made of: how it is cut into them, and which of them name a side, a derived
structure, a dose, or nothing at all."""

from __future__ import annotations

import re
import unicodedata


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of a side that mean it whatever organ they stand beside.
LEFT = _set(
    """l lt lft left lh sin sinister sinistra sinistro sn sx links linke linker linkes linken lks lnks
    gauche gche
    gch gau izq izqdo izqda izdo izda izquierdo izquierda"""
)
RIGHT = _set(
    """r rt rgt rght right rh dex dext dexter dextra dx destra destro dxt rechts rechte rechter rechtes
    rechten rts
    rchts droite droit drte drt dte der derecho derecha dcho dcha dch drch"""
)
# Short ones, which mean a side only beside an organ's word of their own language: word -> (side, languages).
BOUND = {
    "g": ("L", {"french"}),
    "d": ("R", {"french", "italian", "spanish"}),
    "dr": ("R", {"french"}),
    "li": ("L", {"german", "dutch"}),
    "re": ("R", {"german", "dutch"}),
    "s": ("L", {"italian"}),
    "i": ("L", {"spanish"}),
    "iz": ("L", {"spanish"}),
    "de": ("R", {"spanish"}),
}
ONLY_OF = {"s": "italian", "i": "spanish", "de": "spanish", "der": "spanish"}  # in no other language's word
GLUED = ("linker", "rechter", "left", "right", "links", "rechts", "lt", "rt", "l", "r")

BOTH = _set(
    """both beide beider beidseits bds bds. bilat bilateral bilaterale bilateraux bil ambos ambas
    entrambi deux
    combined comb total totale totaux totali totaal tot ges gesamt all whole"""
)
IPSI = _set("ips ipsi ipsilateral ipsilat homolateral homolat")
CONTRA = _set("con contra contralateral contralat kontralateral heterolateral")
FILLERS = _set(
    """gland glands glnd gl glandula ghiandola glande drüse druese klier organ organs oar oars roi volume vol
    structure struct whole entire total totale totaal tot ges gesamt ganz auto ai final approved dlas m
    musc the of
    du de la del della des"""
)

# What makes a structure one that was made from others, and the reason that is given.
DERIVED = {
    "planning volume (PRV)": "prv prvs prv1 prv2",
    "ring": "ring rings rng anneau couronne anillo anello corona schale schaal shell rind sleeve collar halo "
    "donut ringe saum manschette",
    "for evaluation": "eval evl evaluation ev dvh evaluatie",
    "for optimisation": "opt opti optim optimise optimize optimization optimisation optimiert otp "
    "optimizacion "
    "optimisatie ottimizzazione opz",
    "minus something": "minus less without wo ohne sans senza zonder menos meno moins hors sub subtr "
    "subtract "
    "subtracted exc excl excluding ex not sauf except excluded esclusa",
    "to avoid or to spare": "avoid avoidance avoids avd vermeidung vermeid spare spared spares sparing "
    "schonung "
    "evitar evitare eviter vermijd schon",
    "helper": "help helper helpers hilf hilfe hilfs hilfsstruktur hulp aide ayuda aiuto ausiliare "
    "ausiliaria ctrl "
    "control controls contr kontrolle controle controllo dummy temp tmp test pseudo fake virtual push "
    "pull limit "
    "limiter constraint block blok ns nt nts ntx ndr normal planning plng plan hs util help1 hilf1 cntrl "
    "cntl cont",
    "changed copy": "crop cropped cut trim trimmed mod modified modif mod1 edit edited",
    "with a margin": "exp expand expanded expansion margin marge rand uitbreiding expansie marg",
    "part in or outside of another": "ov ovl ovlp overlap overl inter intersect intersection in inside "
    "out outside "
    "infield outfield field union und and et",
    "of the dose": "hot hotspot hotspots cold coldspot dose isodose isodosis isod iso idl dosis",
    "marker, point or artefact": "marker markers poi isocenter isocentre isocentro isozentrum fiducial "
    "fiducials "
    "clip clips artifact artifacts artefact artefacts artefakt artefakte wire wires seed seeds implant metal "
    "prosthesis prothese contrast gas air luft",
}
REASON = {word: reason for reason, words in DERIVED.items() for word in words.split()}
LEADS = frozenset({"z", "zz", "zzz", "zzzz", "x", "xx", "xxx", "ns", "nt"})
GLUED_DERIVED = (
    "prv", "ring", "eval", "opt", "avoid", "ctrl", "help", "hilf", "minus", "crop", "spare", "shell",
    "zzz", "zz", "z",
)  # fmt: skip
MINUS = frozenset(DERIVED["minus something"].split()) | {"-", "min", "sin", "zonder", "no"}
DOSE_UNITS = frozenset({"gy", "cgy"})
LENGTHS = frozenset({"mm", "cm"})
FRACTIONS = frozenset(
    {"fx", "fr", "frx", "fraction", "fractions", "fraktionen", "fractiones", "fracties", "x"}
)
LIMITS = _set("max mean dmax dmean med median min dmin mittel moy media")
TARGETS = {"ptv": "ptv", "ctv": "ctv", "gtv": "gtv", "itv": "ctv"}
_TARGET = re.compile(r"(ptv|ctv|gtv|itv)", re.IGNORECASE)
_CGY = re.compile(r"cGy|CGy|CGY|cGY")
_CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+|[-+&/\\!%<>~=*]")
_GERMAN = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "œ": "oe", "æ": "ae", "ø": "oe", "å": "a"}
)


def spellings(text: str) -> tuple[str, ...]:
    """`text` in letters without accents, in lower case: umlauts as two letters, and as one where that
    differs."""
    low = unicodedata.normalize("NFC", text).lower()
    return tuple(
        dict.fromkeys((_plain(low.translate(_GERMAN)), _plain(low.replace("œ", "oe").replace("ß", "ss"))))
    )


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def cut(name: str) -> list[str]:
    """A name's words, numbers and signs in order, in their own case: at separators, between letters and
    digits, before capitals within a word, and around PTV, CTV, GTV and ITV."""
    text = unicodedata.normalize("NFC", name).replace("–", "-").replace("−", "-").replace("'", " ")
    text = _CGY.sub("cgy", text)
    parts = [_CAMEL.sub(" ", part) if not _TARGET.fullmatch(part) else part for part in _TARGET.split(text)]
    return _TOKEN.findall(" ".join(parts))


def is_number(token: str) -> bool:
    """True for a token of digits."""
    return token[0].isdigit()


def is_word(token: str) -> bool:
    """True for a token of letters."""
    return token[0].isalpha()


def side_of(word: str) -> str:
    """'L' or 'R' for a word that means a side by itself, else ''."""
    return "L" if word in LEFT else "R" if word in RIGHT else ""
