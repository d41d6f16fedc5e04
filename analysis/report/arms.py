"""What each arm of a campaign is, as its experiment says it."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.words import Table
from fave.campaign.experiment import Experiment, Variant
from fave.settings import to_plain


def table(experiment: Experiment) -> Table:
    """Of those that are more than a regime of that name."""
    every = [(arm, "\n".join(_said(experiment, arm))) for arm in experiment.regimes]
    return Table("Arms", ("arm", "is"), [(arm, said) for arm, said in every if said != f"regime {arm}"], words=True)


def _said(experiment: Experiment, arm: str) -> Iterator[str]:
    ahead = experiment.prewarming.get(arm)
    if arm in experiment.switching:
        yield "regime " + ", ".join(f"{each.regime} from {each.at}" for each in experiment.switching[arm])
    elif ahead:
        after = f"{ahead.after_bursts} after it" if ahead.after_bursts else "its last arrival"
        yield f"regime {ahead.regime} from {ahead.before_bursts} before each burst to {after}, else {ahead.otherwise}"
    else:
        yield f"regime {experiment.regime_of(arm)}"
    for part, stages in experiment.decompositions.get(arm, {}).items():
        yield f"one function {part}: {', '.join(stages)}"
    for function, variant in experiment.variants.get(arm, {}).items():
        yield f"{function}: {_otherwise(variant)}"


def _otherwise(variant: Variant) -> str:
    return ", ".join(f"{key} {value}" for key, value in to_plain(variant).items() if value not in (None, "", {}))
