"""``python -m paper``."""

import sys

from paper.cli import main, set_up_logging
from paper.stdio import begin, end

if __name__ == "__main__":
    begin()
    set_up_logging()
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `python -m paper dump | head`
        code = 0
        end()
    sys.exit(code)
