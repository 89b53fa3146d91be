"""The organ vocabulary of a cohort: recorded in its store, or built from what its cases hold."""

from __future__ import annotations

from pathlib import Path

from anydose.case.naming import table
from anydose.case.naming.account import Account, account
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary, named
from anydose.io import store

OF_COHORT = "cohort"
"""The word for a vocabulary that is built from the data."""


def vocabulary_of(name: str) -> Vocabulary:
    """The vocabulary of a name, of a YAML file, or the one that a cohort store records; head and neck for ''.
    ValueError for anything else."""
    if not name:
        return HEAD_NECK
    if not store.is_store(Path(name)):
        return named(name)
    organs = store.organs(Path(name))
    if organs is None:
        raise ValueError(f"{name}: records no vocabulary; convert it again with --vocabulary")
    return Vocabulary(organs)


def asked_of(cohort: Path, name: str) -> Vocabulary:
    """The vocabulary of a name; of '' the one that the cohort store records, or head and neck where there is
    none. ValueError as above."""
    if name or not store.is_store(cohort):
        return vocabulary_of(name)
    return Vocabulary(store.organs(cohort) or HEAD_NECK.organs)


def settle(cohort: Path, name: str) -> Vocabulary:
    """The vocabulary of a cohort store by what was asked for, recorded there from now on: 'cohort' is built
    from the data, '' is the recorded one, or head and neck where there is none. ValueError as above."""
    if name == OF_COHORT:
        found = Vocabulary.from_cohort(
            meaning for case in store.names(cohort) for meaning in store.stored_naming(cohort / case)[0]
        )
    else:
        found = asked_of(cohort, name)
    store.record_organs(cohort, found.organs)
    return found


def account_of(cohort: Path, vocabulary: Vocabulary) -> Account:
    """What of a cohort store a vocabulary draws, merges and leaves out."""
    each = (store.stored_naming(cohort / case) for case in store.names(cohort))
    return account((table.rows(*naming, vocabulary) for naming in each), vocabulary.organs)
