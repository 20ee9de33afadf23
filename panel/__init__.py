"""The control panel: a page and an API that show status and write control (design sections 2 and 4).

It knows no other way to the bot than the bus, so it works across every handover. `python -m panel` runs it.
"""

from panel.actions import Actions, Written
from panel.api import create_app
from panel.errors import ConfirmationNeededError, PanelError, StartError, TooManyPagesError, UnknownSlotError
from panel.events import Events
from panel.guard import Guard
from panel.settings import PanelSettings
from panel.token import load_token
from panel.views import Views

__all__ = [
    "Actions",
    "ConfirmationNeededError",
    "Events",
    "Guard",
    "PanelError",
    "PanelSettings",
    "StartError",
    "TooManyPagesError",
    "UnknownSlotError",
    "Views",
    "Written",
    "create_app",
    "load_token",
]
