"""How every plot looks: colours, type sizes, the notice at its foot, and the files it is written to.

Colours are Okabe and Ito's (2008), distinct for colour-blind eyes; line styles, markers and
hatches keep things apart in grey. Plots are 7 inches wide, the text of a page; type is 8 to 10
points there. PDF and SVG keep text as text, and the same data give the same bytes.

    from inference.plots.style import new_figure, save_figure, styled

Only this module imports matplotlib, whatever MPLBACKEND says; all others take its parts from here.
"""

# ruff: noqa: F401  (matplotlib's parts are for the modules that draw)

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from inference.common.storage import atomic_path
from inference.common.terminal import plain
from inference.data.vecbench import GROUPS
from inference.metrics.prediction_table import OVERALL, group_slices
from inference.plots import FORMATS

# A notebook passes its own backend on to its child processes, where it may not be installed: that would end the import.
# Plots are written to files here, whatever the backend; it is kept for windows that the caller may draw.
BACKEND = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyBboxPatch, Patch
    from matplotlib.ticker import MaxNLocator
finally:
    if BACKEND is not None:
        os.environ["MPLBACKEND"] = BACKEND
if BACKEND is not None:
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = BACKEND

# colour, line style, marker
STYLES = dict(zip(GROUPS, (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")), strict=True))
HATCHES = dict(zip(GROUPS, ("", "//////", "xxxx"), strict=True))  # bars side by side, in grey
PANEL_STYLES = {**STYLES, OVERALL: ("#333333", "-", "D")}
RIGHT_COLOUR, WRONG_COLOUR = "#56B4E9", "#D55E00"
FAINT = "#777777"

# A bin of fewer samples says little: it is drawn hollow and off the line.
MIN_BIN_COUNT = 5

MAX_NAME = 24  # characters of a label or a run
WIDTH = 7.0  # inches
# Without a date, a plot drawn again is the same file.
METADATA = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

SETTINGS = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 200,
    # A dollar sign in a label or notice is a dollar sign.
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "inference.plots",
}
styled = matplotlib.rc_context(SETTINGS)  # a decorator: it leaves the caller's own settings as they were


def drawable(text: str) -> str:
    """Text of data as a plot can hold it: an SVG file no control characters, a font no half of a character."""
    return plain(text, frozenset("\n"))


def short_label(text: str) -> str:
    """A drawable name of at most ``MAX_NAME`` characters."""
    text = drawable(text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A plot of so many inches that makes room for its own labels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.05)
    return figure


def check_formats(formats: Sequence[str]) -> None:
    """Raise ValueError when a format is none of ``FORMATS``."""
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"formats: expected some of {', '.join(FORMATS)}, got {name!r}")


def save_figure(figure: Figure, path: str | Path, formats: Sequence[str] = ("png",), note: str = "") -> list[Path]:
    """Write ``<path>.png`` and so on, with ``note`` at the foot; returns the paths.

    Raises:
        ValueError: on a format that is none of ``FORMATS``.
    """
    check_formats(formats)
    if note:
        width = int(18 * figure.get_figwidth())
        lines = [part for line in drawable(note).splitlines() for part in textwrap.wrap(line, width)]
        figure.supxlabel("\n".join(lines), fontsize=7, color="#444444", linespacing=1.3)
    written = []
    for name in formats:
        target = Path(f"{path}.{name}")
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format=name, metadata=METADATA[name])
        figure.set_layout_engine("none")  # one layout for all formats, computed once
        written.append(target)
    return written


def group_panels(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, samples) of the panels of a plot by group: the three groups, then all samples."""
    yield from group_slices(table)
    yield OVERALL, table


def head_panel(panel: Axes, name: str, words: str = "") -> None:
    """A panel's name, and its numbers in words under it: above the data, where they cover none of it."""
    panel.set_title(name, loc="left", fontweight="bold", pad=17 if words else 5)
    panel.annotate(words, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=8.5)


def say_in_panel(panel: Axes, text: str) -> None:
    """Words in place of data that are not there."""
    look = {"ha": "center", "va": "center", "color": FAINT, "backgroundcolor": "white"}
    panel.text(0.5, 0.5, text, transform=panel.transAxes, **look)
