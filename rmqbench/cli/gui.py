"""``rmqbench gui``: a window that shows the messages of a queue live."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.output import write_out
from rmqbench.errors import RmqbenchError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
@with_options(ConnectionOptions)
def gui(
    connection: ConnectionOptions,
    queue: Annotated[str, typer.Option(help="The queue to show.")] = "work.queue",
    name: Annotated[
        str, typer.Option(help="Shown in the title, and the consumer's name at the broker.")
    ] = "Viewer",
    prefetch: Annotated[
        int,
        typer.Option(min=1, max=65_535, help="Unacknowledged messages, at most."),
    ] = 1000,
    keep: Annotated[
        int, typer.Option(min=1, max=100_000, help="Messages in the window, at most.")
    ] = 1000,
) -> None:
    """Show the messages of a queue live, in a window.

    It consumes like a worker: once a message is shown it is acknowledged and
    gone from the queue; what has not been shown stays there.

    Keys: P pauses, C clears, F follows the newest message, Ctrl-Q ends it.

    Example: rmqbench gui --queue audit.queue --name Auditor
    """
    window = _window()
    from rmqbench.gui.feed import Feed

    feed = Feed(
        connection.endpoint(),
        queue,
        name=name,
        prefetch=prefetch,
    )
    root = window.open_root()
    with feed:
        view = window.Window(root, feed, keep=keep)
        view.run()
        gc.freeze()  # were Tk's objects collected in the feed's thread, Tcl would abort
    line = f"shown={feed.shown}, acknowledged={feed.acknowledged}"
    write_out(f"{line}\n", line)
    if feed.failure is not None:
        raise feed.failure


def _window() -> ModuleType:
    """Import the window, or raise RmqbenchError: not every Python has Tk."""
    try:
        from rmqbench.gui import window
    except ImportError as error:
        raise RmqbenchError(
            f"This Python has no Tk, which the window needs ({error}).",
            "Install it: on Debian or Ubuntu apt install python3-tk, on Fedora dnf install "
            "python3-tkinter, with Homebrew brew install python-tk. Without a window: rmqbench "
            "consume.",
        ) from error
    return window
