"""Tables of calibrations and of measured runs beside their simulations; plain text when piped."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gsched.calibration import Calibration
from gsched.causes import Cause
from gsched.cluster import Cluster
from gsched.errors import one_line
from gsched.fidelity import Fidelity, Figure
from gsched.state import load_seconds
from gsched.table import plain_table
from gsched.workload import Config

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_GPUS = 32


def calibration_table(calibration: Calibration, config: Config, cluster: Cluster) -> "Table":
    """Return a table with a line for each model: what was measured, and the load time beside the configured one.

    Args:
        calibration: what was measured.
        config: the configuration of the runs.
        cluster: on which a load time that the configuration leaves out is derived.
    """
    table = _table("model", "nodes", "factor", "spread", "loads", "load s", "configured s")
    for id, fit in calibration.models.items():
        model = config.models[id]
        configured = load_seconds(model.memory_gb, model.load_time_seconds, cluster)
        spread = None if fit.spread is None else fit.spread * 100
        figures = (_number(fit.factor, 3), _number(spread, 1, "%"), f"{fit.loads:,}", _number(fit.load_seconds))
        table.add_row(_text(id), f"{fit.nodes:,}", *figures, _number(configured))
    return table


def calibration_lines(calibration: Calibration, cluster: Cluster) -> Iterator[str]:
    """Yield what the table does not say: the overhead, the switches, and what was not measured."""
    if calibration.overhead_error is not None:
        yield f"overhead of each node: {calibration.overhead:.4g} s (± {calibration.overhead_error:.2g} s)"
    fitted = calibration.cluster(cluster)
    if calibration.pcie_bandwidth is not None:
        costs = f"{fitted.pcie_bandwidth:.4g} GB/s and {fitted.switch_overhead:.4g} s"
        configured = f"{cluster.pcie_bandwidth:.4g} GB/s and {cluster.switch_overhead:.4g} s"
        spread = calibration.switch_spread
        around = "" if spread is None else f", with a spread of {spread:.1%}"
        yield f"switches: {calibration.switches:,}, which tell {costs} each (configured: {configured}){around}"
    yield from map(one_line, calibration.unmeasured)


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """Return what was measured, and in words what was not, for JSON."""
    return {**asdict(calibration), "unmeasured": list(calibration.unmeasured)}


def totals_table(fidelity: Fidelity) -> "Table":
    """Return a table with a line for each figure of the whole run."""
    table = _table("figure", "measured", "explained", "error", "predicted", "error")
    for figure in fidelity.totals:
        digits = 0 if figure.name in ("switches", "loads") else 2
        table.add_row(figure.name, *_cells(figure, digits))
    return table


def models_table(fidelity: Fidelity) -> "Table":
    """Return a table with a line for each model that was executed, and each of its figures."""
    return _parts_table("model", list(fidelity.models.items()))


def gpus_table(fidelity: Fidelity, shown: int = SHOWN_GPUS) -> "Table":
    """Return a table with a line for each of the first `shown` GPUs, and each of its figures."""
    return _parts_table("GPU", [(str(gpu), figures) for gpu, figures in enumerate(fidelity.gpus[:shown])])


def _parts_table(what: str, parts: Sequence[tuple[str, Sequence[Figure]]]) -> "Table":
    table = _table(what, "figure", "measured", "explained", "error", "predicted", "error")
    for name, figures in parts:
        for figure in figures:
            table.add_row(_text(name), figure.name, *_cells(figure, 0 if figure.name == "executions" else 2))
    return table


def fidelity_lines(fidelity: Fidelity, shown: int = SHOWN_GPUS) -> Iterator[str]:
    """Yield what the tables do not say: why the largest errors are as they are, what was left out or not measured."""
    for title, causes in (
        ("Why the prediction was off:", fidelity.missed),
        ("What measured times do not explain:", fidelity.unexplained),
    ):
        if causes:
            yield title
            yield from (f"  {one_line(_sentence(cause))}" for cause in causes)
    if len(fidelity.gpus) > shown:
        yield f"The table shows {shown:,} of {len(fidelity.gpus):,} GPUs"
    yield from map(one_line, (*fidelity.notes, *fidelity.calibration.unmeasured))


def _sentence(cause: Cause) -> str:
    return f"{cause.what} ({cause.seconds:+,.2f} s): {cause.why}"


def fidelity_json(fidelity: Fidelity) -> dict[str, Any]:
    """Return all figures, errors and causes for JSON."""
    return {
        "requests": fidelity.requests,
        "totals": _by_name(fidelity.totals),
        "models": {id: _by_name(figures) for id, figures in fidelity.models.items()},
        "gpus": [_by_name(figures) for figures in fidelity.gpus],
        "unexplained": [cause._asdict() for cause in fidelity.unexplained],
        "missed": [cause._asdict() for cause in fidelity.missed],
        "notes": list(fidelity.notes),
        "calibration": calibration_json(fidelity.calibration),
    }


def _by_name(figures: Sequence[Figure]) -> dict[str, dict[str, float | None]]:
    return {
        figure.name.replace(" ", "_"): {
            "measured": figure.measured,
            "explained": figure.explained,
            "explained_error_percent": figure.explained_error,
            "predicted": figure.predicted,
            "predicted_error_percent": figure.predicted_error,
        }
        for figure in figures
    }


def _table(first: str, *others: str) -> "Table":

    table = plain_table()
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="left" if title == "figure" else "right", no_wrap=True)
    return table


def _cells(figure: Figure, digits: int) -> tuple[str, ...]:
    explained, predicted = (_error(error) for error in (figure.explained_error, figure.predicted_error))
    real, first, second = (f"{value:,.{digits}f}" for value in (figure.measured, figure.explained, figure.predicted))
    return real, first, explained, second, predicted


def _error(percent: float | None) -> str:
    return "-" if percent is None else f"{percent + 0.0:+,.1f}%" if abs(percent) >= 0.05 else "0.0%"


def _number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def _text(name: str) -> Any:
    from rich.text import Text

    return Text(one_line(name))
