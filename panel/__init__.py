"""The control panel: a page and an API that show status and write control (design sections 2 and 4).

It knows no other way to the bot than the bus, so it works across every handover. `python -m panel` runs it.
"""

from panel.actions import Actions, Asker, Written
from panel.api import create_app
from panel.connections import Connections
from panel.errors import ConfirmationNeededError, PanelError, StartError, TooManyPagesError, UnknownSlotError
from panel.events import Events
from panel.guard import Guard, Scope, Token, load_tokens
from panel.ledger_queries import LedgerQueries
from panel.server import PanelSettings
from panel.views import Views

__all__ = [
    "Actions",
    "Asker",
    "ConfirmationNeededError",
    "Connections",
    "Events",
    "Guard",
    "LedgerQueries",
    "PanelError",
    "PanelSettings",
    "Scope",
    "StartError",
    "Token",
    "TooManyPagesError",
    "UnknownSlotError",
    "Views",
    "Written",
    "create_app",
    "load_tokens",
]
