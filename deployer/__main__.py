"""`python -m deployer`."""

import sys

from deployer.commands.cli import main

sys.exit(main())
