"""Commands whose help is plain text: to import rich for it would take longer than all the rest.

A command is imported when it is called, or when its own help is asked for.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ["Command", "Group", "ImportedCommands", "new_app"]


class Command(TyperCommand):
    """A command; options of a panel stand under a heading of their own."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options of the help."""
        _write_parameters(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """Commands under one name; their list has a whole sentence of each."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order in which they were added."""
        return list(self.commands)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, all of them flags, which are False where they are not given.

        Some of typer's own have None: to make a bool of it, it may import the whole of pydantic.
        """
        options: list[Any] = super().get_params(ctx)
        for each in options:
            if each.default is None:
                each.default = False
        return options

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and commands of the help."""
        _write_parameters(self.get_params(ctx), ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))

    def summaries(self) -> Mapping[str, str]:
        """Return the first sentence of each command's help by the command's name."""
        return {
            name: " ".join((command.help or "").partition("\n\n")[0].split())
            for name, command in self.commands.items()
        }


class ImportedCommands(UserDict[str, Any]):
    """The commands of a package by their names, each in a module of that name, as its ``app``."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        super().__init__(names)
        self._package = package

    def __getitem__(self, name: str) -> Any:
        """Import a command."""
        if name not in self:
            raise KeyError(name)
        return get_command(import_module(f"{self._package}.{name}").app)


def new_app(help: str | None = None, cls: type[Group] = Group) -> typer.Typer:
    """Return what a command's module adds its command to, or with a ``help`` a group of them."""
    return typer.Typer(
        cls=cls, help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )


def _write_parameters(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for each in parameters:
        record = each.get_help_record(ctx)
        if record is not None:  # else it is hidden
            usual = f"{each.param_type_name.capitalize()}s"
            panel = getattr(each, "rich_help_panel", None) or usual
            panels.setdefault(panel, []).append(record)
    for panel, records in panels.items():
        if records:
            with formatter.section(panel):
                formatter.write_dl(records)
