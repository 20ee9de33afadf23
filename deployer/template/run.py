"""Starts the bot with the settings of this repository; `--version` only tries whether its strategy can be loaded."""

import os
import sys
from pathlib import Path

from bot.cli import main
from bot.strategy.guard import load_strategy
from bus import SettingsError

for line in Path(__file__).with_name("settings.env").read_text().splitlines():
    name, separator, value = line.partition("=")
    if separator and not name.startswith("#"):
        os.environ[name.strip()] = value.strip()

if "--version" in sys.argv:
    try:
        load_strategy(os.environ.get("BOT_STRATEGY", "bot.strategy.snipe:Snipe"))
    except SettingsError as error:
        sys.exit(str(error))
sys.exit(main())
