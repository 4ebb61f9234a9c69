"""rich's console as it is used here. Imported late: rich takes longer than most verbs."""

from __future__ import annotations

from typing import Any

import rich.console


class Console(rich.console.Console):
    """A console that takes nothing for markup or numbers, and never hides the cursor.

    A process that is ended by Ctrl-\\ or SIGKILL couldn't show it again.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(file=stream, highlight=False)

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is."""
        return False
