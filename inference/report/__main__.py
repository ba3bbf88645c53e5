"""``python -m inference.report``: see ``inference.report.build``."""

from inference.report.build import main

if __name__ == "__main__":
    main()
