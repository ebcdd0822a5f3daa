"""``rmqbench museum``: real ways in which RabbitMQ lost messages."""

from __future__ import annotations

from typing import Annotated

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.output import write_out

__all__ = ["app"]

app = new_app()


@app.command(cls=Command)
def museum(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXHIBIT]", show_default=False, help="One of them, by its name or number."
        ),
    ] = None,
) -> None:
    """List the exhibits: real ways in which RabbitMQ lost messages; or tell of one.

    rmqbench reproduce shows each of them on a broker of its own.

    Example: rmqbench museum 14576
    """
    from rich.console import Console

    from rmqbench.museum import exhibit, exhibits
    from rmqbench.report.museum import exhibit_view, museum_view
    from rmqbench.report.terminal import render

    view = museum_view(exhibits()) if name is None else exhibit_view(exhibit(name))
    terminal = Console()
    colour = terminal.is_terminal and not terminal.no_color
    write_out(render([view], width=terminal.width, colour=colour))
