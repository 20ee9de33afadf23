"""``python -m recording``."""

import sys

from recording.cli import main

if __name__ == "__main__":
    sys.exit(main())
