"""`python -m cli`, and the entry points `ns` and `never-sleeps`."""

import sys

from bus.main import run_main


def _main() -> int:
    from cli.app import main

    return main()


def main() -> None:
    """Run one command and end."""
    sys.exit(run_main(_main))


if __name__ == "__main__":
    main()
