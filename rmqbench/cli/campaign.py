"""``rmqbench run FILE.toml``: the runs of a file, one after the other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmqbench.cli.commands import Group
from rmqbench.cli.evidence import DirectoryOption, Evidence, KeepDaysOption, KeepOption
from rmqbench.cli.json_file import JsonOption, is_stdout, require_writable, write_file
from rmqbench.cli.output import say, write_out
from rmqbench.cli.signals import interrupts_told
from rmqbench.errors import RmqbenchError
from rmqbench.text import counted, visible_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from rmqbench.broker import Broker
    from rmqbench.campaign import Campaign, CampaignResult, PlannedRun, RunOutcome
    from rmqbench.runner.run import Progress

__all__ = ["FILE", "ScenarioOrFile", "campaign"]

FILE = "FILE.toml"
"""The name of the command in the help, where a path stands in its use."""

_INTERRUPTED = (
    "interrupted: ending the run under way. A second Ctrl-C leaves behind what it made on a broker "
    "that is not ours."
)


class ScenarioOrFile(Group):
    """The commands of ``run``: the name of a scenario, or a path that ends in ``.toml``."""

    # Any: whether a context is click's or typer's own depends on the version of typer.
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command and its arguments, of which the path of a campaign is the first."""
        if args and args[0].endswith(".toml"):
            return None, self.commands[FILE], args
        return super().resolve_command(ctx, args)


def campaign(
    file: Annotated[Path, typer.Argument(metavar=FILE, help="The campaign.")],
    list_them: Annotated[
        bool, typer.Option("--list", help="Check the file and list its runs; no broker is opened.")
    ] = False,
    directory: DirectoryOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --directory: go on with the campaign that is there. What came to a verdict "
            "is not run again.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End with the first run that does not pass.")
    ] = False,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
    progress_every: Annotated[
        int,
        typer.Option(min=1, help="A progress line every N messages, if there is no terminal."),
    ] = 100_000,
) -> None:
    """Do the runs of a campaign: scenarios, brokers, sizes, faults, each as often as the file says.

    The exit code is that of the worst run: 1 before 5, 4, 2, 3 and 0; 130 after Ctrl-C, 143 after
    SIGTERM. A run that does not pass, or a broker that cannot be started, does not keep the others
    from being run.

    Example: rmqbench run FILE.toml --directory evidence/nightly --json nightly.json
    """
    from rmqbench.campaign import Campaign, run_campaign
    from rmqbench.report.campaign import campaign_view, plan_view

    planned = Campaign.read(file)
    if list_them:
        _show(plan_view(planned))
        return
    require_writable(json_file)
    evidence = Evidence(directory, keep, keep_days)
    shown = _Shown(planned, progress_every)
    try:
        with interrupts_told(_INTERRUPTED):
            result = run_campaign(
                planned,
                directory=directory,
                resume=resume,
                fail_fast=fail_fast,
                say=say,
                opened=_show_broker,
                following=shown.following,
                changed=shown.changed,
            )
    except (KeyboardInterrupt, SystemExit):
        if shown.result is not None:
            _show_result(shown.result, campaign_view(shown.result), json_file)
            words = ("rmqbench", "run", file, "--directory", shown.result.directory, "--resume")
            say(f"Go on with: {shlex.join(map(str, words))}")
        raise
    evidence.tidy()
    written = _show_result(result, campaign_view(result), json_file)
    raise typer.Exit(result.exit_code or (0 if written else RmqbenchError.exit_code))


class _Shown:
    """What a person sees of a campaign while it runs, on standard error."""

    def __init__(self, campaign: Campaign, every: int) -> None:
        self.result: CampaignResult | None = None
        self._runs = campaign.runs
        self._every = every

    @contextmanager
    def following(
        self, planned: PlannedRun, _broker: Broker
    ) -> Iterator[Callable[[Progress], None]]:
        """Show which run begins, and how far it comes."""
        from rich.console import Console

        from rmqbench.cli.progress import shown_progress

        number = self._runs.index(planned) + 1
        say(visible_line(f"[{number}/{len(self._runs)}] {planned.name}"))
        with shown_progress(Console(stderr=True), every=self._every) as watch:
            yield watch

    def changed(self, result: CampaignResult, last: RunOutcome | None) -> None:
        """Keep the result so far, and say what became of the run that has ended."""
        from rmqbench.report.campaign import outcome_line

        self.result = result
        if last is not None:
            say(outcome_line(last))
        elif judged := sum(each.has_verdict for each in result.runs):
            say(f"{judged} of {counted(len(self._runs), 'run')} came to a verdict before.")


def _show_broker(broker: Broker) -> None:
    say(visible_line(f"RabbitMQ {broker.version} at {broker.endpoint}: {broker.how}"))


def _show_result(result: CampaignResult, view: RenderableType, json_file: Path | None) -> bool:
    """Show the result, write it where asked to, and return whether all of it could be written."""
    text = json.dumps(result.as_dict(), indent=2) + "\n"
    where = f"It is in {result.directory}"
    if is_stdout(json_file):
        return write_out(text, where)
    _show(view, where)
    return json_file is None or write_file(json_file, text, where)


def _show(view: RenderableType, where: str = "") -> None:
    from rich.console import Console

    from rmqbench.report.terminal import render

    terminal = Console()
    colour = terminal.is_terminal and not terminal.no_color
    write_out(render([view], width=terminal.width, colour=colour), where)
