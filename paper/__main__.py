"""``python -m paper``."""

import sys

from paper.cli import main, set_up_logging

if __name__ == "__main__":
    set_up_logging()
    sys.exit(main())
