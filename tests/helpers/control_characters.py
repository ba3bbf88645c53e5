"""Text that steers a terminal."""

from inference.common.terminal import PROGRESS

CLEAR = "\x1b[2J\x1b]0;title\x07\x9b1A\x7f\u202e\rok"  # clears, titles, moves up, deletes, turns the line round


def steers(text, kept=PROGRESS):
    return [char for char in text if not char.isprintable() and char not in kept]
