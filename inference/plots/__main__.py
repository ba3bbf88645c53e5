"""``python -m inference.plots``: see ``inference.plots.curves``."""

from inference.plots.curves import main

if __name__ == "__main__":
    main()
