"""Group-sequential decisions: a campaign is judged after fixed numbers of blocks, and ends when all is decided.

Looks are fixed beforehand, and alpha is divided among them (Bonferroni over looks: it holds whatever the joint law of
the statistics, also with three blocks; a spending function for normal statistics would be sharper and is not exact
there). The k-th of K looks gets k / (1 + ... + K) of it: few blocks have little power. The smallest p over the looks so
far, each divided by its share, is a p that Holm adjusts over contrasts as any other (Maurer and Bretz, Statistics in
Biopharmaceutical Research 5(4), 2013). Equivalence has its own alpha, shared by the looks at which there are enough
blocks for it. The interval of the look at which a load ended has the level that the look's share leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analysis.statistics.compare import CONFIRMATORY_BLOCKS


class Look(NamedTuple):
    """After so many blocks. share: of alpha, for differences; equivalence_share: for equivalence, 0 where too early."""

    blocks: int
    share: float = 1.0
    equivalence_share: float = 1.0


def planned(blocks: Sequence[int]) -> list[Look]:
    """blocks: ascending."""
    shares = _in_proportion(blocks)
    late = [each for each in blocks if each >= CONFIRMATORY_BLOCKS]
    later = dict(zip(late, _in_proportion(late), strict=True))
    return [Look(each, share, later.get(each, 0.0)) for each, share in zip(blocks, shares, strict=True)]


def _in_proportion(blocks: Sequence[int]) -> list[float]:
    whole = len(blocks) * (len(blocks) + 1) / 2
    return [(k + 1) / whole for k in range(len(blocks))]


def over(p: Sequence[float | None], shares: Sequence[float]) -> float | None:
    """Of the tests at the looks so far; None where there was none."""
    known = [min(1.0, each / share) for each, share in zip(p, shares, strict=True) if each is not None and share]
    return min(known, default=None)
