"""One look per policy and per model, the same in every plot and page, to be told apart by the colour-blind.

The colours are those of Okabe and Ito (2008, "Color Universal Design") and, beyond their eight, of Paul Tol's muted
scheme. Policies differ in markers and dashes, too, so that a print in grey can be read.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Look(NamedTuple):
    """How a line is drawn: colours on a light and on a dark ground, marker (matplotlib's letter), dashes in points."""

    light: str
    dark: str
    marker: str
    dashes: tuple[float, ...]


_SOLID: tuple[float, ...] = ()
_BUILT_IN: Mapping[str, Look] = {
    "baseline": Look("#7a7f87", "#9aa4af", "o", (4, 2)),
    "edf": Look("#e69f00", "#e69f00", "s", (1, 1.5)),
    "tiered": Look("#56b4e9", "#56b4e9", "^", (6, 2, 1, 2)),
    "offline": Look("#009e73", "#2dbe94", "D", _SOLID),
    "improved": Look("#d55e00", "#ff8f5a", "v", _SOLID),
    "hybrid": Look("#cc79a7", "#e09ac0", "P", (4, 2)),
    "static": Look("#1b1f24", "#e4e7eb", "X", _SOLID),
    "online": Look("#0072b2", "#4aa3e0", "h", _SOLID),
    "search": Look("#882255", "#d1699c", "*", (6, 2, 1, 2)),
}
_OTHERS = (
    Look("#999933", "#c2c25a", "<", _SOLID),
    Look("#117733", "#4fb36f", ">", (1, 1.5)),
    Look("#aa4499", "#d27ac3", "p", (4, 2)),
    Look("#661100", "#c9735c", "d", (6, 2, 1, 2)),
)

MODELS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999933", "#882255", "#44aa99", "#ddcc77"),
    *("#332288", "#aa4499", "#117733", "#88ccee", "#cc6677"),
)
"""Colours of models, in the order of the configuration; where there are more models, they begin again."""


def policy_looks(policies: Iterable[str]) -> dict[str, Look]:
    """Return the look of each policy: a built-in one always has its own, others take turns."""
    names = list(dict.fromkeys(policies))
    others = [name for name in names if name not in _BUILT_IN]
    turns = {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}
    return {name: _BUILT_IN.get(name) or turns[name] for name in names}


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """Return the colour of each model, in the order of the configuration."""
    return {model: MODELS[i % len(MODELS)] for i, model in enumerate(dict.fromkeys(models))}
