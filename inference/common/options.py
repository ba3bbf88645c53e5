"""Types of options that are numbers, with messages that say what was expected."""

from __future__ import annotations

import argparse
import math


def finite_number(text: str) -> float:
    """The type of options that are numbers: ``float`` also takes nan, which no comparison with a bound refuses.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return number


def at_least_one(text: str) -> int:
    """The type of options that are counts.

    Raises:
        argparse.ArgumentTypeError: for anything but a whole number of at least 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
