"""Taking turns by weight, spread evenly: smooth weighted round-robin, as nginx has it.

Each turn, every target earns its weight; the one with the most goes first and pays what all have
earned together. Over as many turns as the weights add up to, each goes first as often as its
weight says, and never in one go if that can be avoided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_llm.domain.models import ModelId

Credits = Mapping[ModelId, int]
"""What each target has earned and not yet used."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The order of this turn, and what is left for the next."""

    order: tuple[ModelId, ...]
    credits: Credits


def take_turn(targets: Sequence[ModelId], weights: Mapping[ModelId, int], had: Credits) -> Turn:
    """The next turn of `targets`, each of which stands there once; a weight is 1 if not given."""
    if not targets:
        return Turn((), had)
    earned = {target: had.get(target, 0) + weights.get(target, 1) for target in targets}
    order = sorted(targets, key=lambda target: -earned[target])
    earned[order[0]] -= sum(weights.get(target, 1) for target in targets)
    return Turn(tuple(order), {**had, **earned})
