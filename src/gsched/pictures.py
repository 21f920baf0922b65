"""Pictures by matplotlib: the same bytes for the same data, whatever the user's own settings are."""

from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK: Mapping[str, Any] = {
    **{"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25},
    **{"text.parse_math": False, "pdf.fonttype": 42},  # names are no formulas; journals want fonts that can be read
}
_UNDATED: Mapping[str, Mapping[str, None]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    "png": {"Software": None},
}
FORMATS = tuple(sorted(_UNDATED))


def write_picture(
    file: IO[bytes],
    form: str,
    draw: Callable[["Figure"], None],
    size: tuple[float, float],
    *,
    look: Mapping[str, Any] = LOOK,
    salt: str = "gsched",
    **options: Any,
) -> None:
    """Draw a picture and write it.

    Args:
        file: gets the picture.
        form: one of `FORMATS`.
        draw: draws into an empty figure.
        size: width and height in inches.
        look: matplotlib's settings, on top of its defaults.
        salt: what tells the ids in an SVG picture from those of others on one page.
        options: of matplotlib's `savefig`.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", {**look, "svg.hashsalt": salt}]):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(file, format=form, metadata=_UNDATED[form], **options)
