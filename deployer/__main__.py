"""`python -m deployer`."""

import sys

from bus.main import run_main


def _main() -> int:
    from deployer.commands.cli import main

    return main()


sys.exit(run_main(_main))
