"""Pictures made of panels with one key, and the files that they become."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from gsched.errors import InputError
from gsched.files import whole_file
from gsched.pictures import write_picture
from gsched.report.colours import Look
from gsched.report.scales import LOG, count_scale, value_scale

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches, of a page's text
DPI = 200
_HEIGHT, _ALONE = 2.5, 3.3  # inches of a panel among others, and of one that is alone
_KEY_COLUMNS = 5
_MOST_COLUMNS = 3
_MOST_TICKS = 8
_LINE = 90  # characters of a title's line across the page
_LONGEST = 40  # characters of a name that become part of a file's


class Panel(NamedTuple):
    """A pair of axes: its title, what draws into it, and what tells it from others in a file's name."""

    title: str
    draw: Callable[["Axes"], None]
    part: str


@dataclass(frozen=True)
class Picture:
    """Panels about one thing.

    Args:
        name: of the file.
        title: what is seen.
        panels: at least one.
        key: makes what the key of all panels shows, in its order, each with its label.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    key: Callable[[], Sequence["Artist"]]


def write_pictures(pictures: Sequence[Picture], folder: Path, form: str, *, separate: bool = False) -> list[Path]:
    """Write pictures into a folder, whole or not at all, and return their paths.

    Args:
        pictures: what is drawn.
        folder: for the files, named after the pictures.
        form: png, svg or pdf.
        separate: whether each panel becomes a file, named after the picture and the panel.

    Raises:
        InputError: a file cannot be written.
    """
    files = _separate(pictures) if separate else {picture.name: picture for picture in pictures}
    paths = []
    for name, picture in files.items():
        path = folder / f"{name}.{form}"
        with whole_file(path) as file:
            write_picture(file, form, partial(draw, picture), size_of(picture), dpi=DPI)
        paths.append(path)
    return paths


def _separate(pictures: Sequence[Picture]) -> dict[str, Picture]:
    files: dict[str, Picture] = {}
    for picture in pictures:
        for panel in picture.panels:
            stem = name = f"{picture.name}_{file_part(panel.part)}"
            number = 1
            while name.casefold() in map(str.casefold, files):
                number += 1
                name = f"{stem}-{number}"
            files[name] = Picture(name, picture.title, [panel], picture.key)
    return files


def file_part(text: str) -> str:
    """Return a text as part of a file's name: what could lead elsewhere, or is awkward to type, becomes a hyphen."""
    return re.sub(r"[^\w.-]+", "-", text)[:_LONGEST].strip("-.") or "unnamed"


def size_of(picture: Picture) -> tuple[float, float]:
    """Return the width and height of a picture in inches."""
    rows, _ = _grid(len(picture.panels))
    key = 0.2 * -(-len(picture.key()) // _KEY_COLUMNS) + 0.4
    return WIDTH, (_ALONE if len(picture.panels) == 1 else rows * _HEIGHT) + key


def _grid(panels: int) -> tuple[int, int]:
    """Return the rows and columns of so many panels."""
    columns = 2 if panels == 4 else min(panels, _MOST_COLUMNS)
    return -(-panels // columns), columns


def draw(picture: Picture, figure: "Figure") -> None:
    """Draw a picture, with its title above and its key below the panels."""
    rows, columns = _grid(len(picture.panels))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, axes in zip(picture.panels, places, strict=False):
        panel.draw(axes)
        axes.set_title(fill(panel.title, _LINE // columns), fontsize="medium")
    for axes in places[len(picture.panels) :]:
        axes.set_axis_off()
    figure.suptitle(picture.title, fontsize="large")
    handles = picture.key()
    if handles:
        names = [str(handle.get_label()) for handle in handles]
        columns = min(len(handles), _KEY_COLUMNS)
        by_row = [i for column in range(columns) for i in range(column, len(handles), columns)]  # matplotlib: by column
        key = [handles[i] for i in by_row], [names[i] for i in by_row]
        figure.legend(*key, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def line_look(look: Look) -> dict[str, Any]:
    """Return how a line is drawn, in matplotlib's words."""
    dashes = (0, look.dashes) if look.dashes else "-"
    return {"color": look.light, "marker": look.marker, "linestyle": dashes, "linewidth": 1.3, "markersize": 4.5}


def numbers(axis: "Axis") -> None:
    """Let the ticks of an axis have thousands separators and no powers."""
    axis.set_major_formatter(lambda value, _: f"{value:,g}")


def value_axis(axes: "Axes", label: str, means: Sequence[float], highs: Sequence[float] = ()) -> None:
    """Let the y axis begin at 0, or be logarithmic where values differ by decades, which its label then says."""
    low, high, log = value_scale(means, highs)
    if log > low:
        axes.set_yscale("symlog", linthresh=log)
    elif log:
        axes.set_yscale("log")
    axes.set_ylim(low, high)
    numbers(axes.yaxis)
    axes.set_ylabel(label + LOG * bool(log))


def count_axis(axes: "Axes", label: str, counts: Sequence[float]) -> None:
    """Mark the x axis at the values that occur."""
    from matplotlib.ticker import NullLocator

    shown = sorted(set(counts))
    low, high, log = count_scale(shown)
    if log:
        axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    numbers(axes.xaxis)
    if len(shown) <= _MOST_TICKS:
        axes.set_xticks(shown)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def chosen(kinds: Sequence[str] | None, known: Sequence[str], what: str) -> Sequence[str]:
    """Return the kinds of pictures that are asked for, by default all.

    Raises:
        InputError: there is no such kind.
    """
    for kind in kinds or ():
        if kind not in known:
            raise InputError.one("options", f"--kind {kind}", f"is no picture of {what}", f"use {', '.join(known)}")
    return list(dict.fromkeys(kinds or known))
