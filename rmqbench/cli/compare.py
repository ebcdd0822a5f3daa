"""``rmqbench compare``: what changed from one side to the other, and is it more than noise?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmqbench.cli.bodies import PayloadOption, SizeOption
from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.evidence import DirectoryOption, Evidence
from rmqbench.cli.json_file import JsonOption, is_stdout, require_writable, write_file
from rmqbench.cli.load import ConsumersOption, ProducersOption, QueueKindOption
from rmqbench.cli.output import say, write_out
from rmqbench.cli.running import INTERRUPTED
from rmqbench.cli.signals import interrupts_told
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.text import visible_line

if TYPE_CHECKING:
    from rmqbench.broker import Broker
    from rmqbench.comparing import Comparison, Condition
    from rmqbench.results.result import Result
    from rmqbench.runner.run import Progress
    from rmqbench.scenarios import Scenario

__all__ = ["app"]

app = new_app()

_SCENARIOS = ("reliability", "online", "stress", "latency")


@app.command(cls=Command)
def compare(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="The directory of a run, of several, or of a campaign; or a broker: local, "
            "container, an image, an AMQP URL.",
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="What is compared with it, likewise.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            show_default="none",
            help="Fail where a figure of NEW is so many times that of BASE, such as "
            "'publish.rate_per_s < 0.9'; may be given several times.",
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, help="Of brokers: how many runs on each, in turn.")
    ] = 5,
    scenario: Annotated[
        str, typer.Option(help="Of brokers: reliability, online, stress or latency.")
    ] = "reliability",
    messages: Annotated[
        int | None,
        typer.Option(help="Of brokers: messages of each run.", show_default="the scenario's own"),
    ] = None,
    size: SizeOption = None,
    payload: PayloadOption = "bytes",
    queue_kind: QueueKindOption = "classic",
    producers: ProducersOption = 1,
    consumers: ConsumersOption = 1,
    directory: DirectoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare runs with others, or do runs on two brokers in turn and compare these.

    Exit codes: 0, 1 a condition of --fail-if is met, 3 a side has no run that passed.

    Example: rmqbench compare rabbitmq:4.0-management rabbitmq:4.3-management
    --fail-if 'publish.rate_per_s < 0.9'
    """
    from rmqbench.comparing import Condition
    from rmqbench.comparing import compare as compare_results

    conditions = [Condition.of(text) for text in fail_if or ()]
    require_writable(json_file)
    are_runs = [Path(side).exists() for side in (base, new)]
    if any(are_runs) and not all(are_runs):
        raise UsageError(
            f"{base} and {new} are not of one kind: one is a directory, the other a broker.",
            "Name two directories, or two brokers.",
        )
    if all(are_runs):
        of_base, of_new = (_results_in(Path(side)) for side in (base, new))
        compared = compare_results(of_base, of_new, conditions, names=(base, new))
    else:
        if scenario not in _SCENARIOS:
            raise UsageError(
                f"There is no scenario {scenario!r} to compare.",
                f"There are {', '.join(_SCENARIOS)}.",
            )
        asked = {
            "messages": messages,
            "size_bytes": size,
            "payload": payload,
            "queue_kind": queue_kind,
            "producers": producers,
            "consumers": consumers,
        }
        compared = _on_brokers(base, new, conditions, repeat, _scenario(scenario, asked), directory)
    written = _show(compared, json_file)
    raise typer.Exit(compared.exit_code or (0 if written else RmqbenchError.exit_code))


def _scenario(name: str, asked: Mapping[str, Any]) -> Scenario:
    from rmqbench import scenarios

    describe: Callable[..., Scenario] = getattr(scenarios, name)
    return describe(**{key: value for key, value in asked.items() if value is not None})


def _on_brokers(
    base: str,
    new: str,
    conditions: list[Condition],
    repeats: int,
    scenario: Scenario,
    directory: Path | None,
) -> Comparison:
    from rmqbench.comparing import compare, run_in_turn
    from rmqbench.run_directory import RunDirectory
    from rmqbench.run_directory.keeping import make_among_runs

    Evidence(directory, 1, 1).require_free()
    names = [_name_of(each) for each in (base, new)]
    with (
        _opened(base) as of_base,
        _opened(new) as of_new,
        interrupts_told(INTERRUPTED),
    ):
        for name, broker in zip(names, (of_base, of_new), strict=True):
            say(visible_line(f"{name}: RabbitMQ {broker.version} at {broker.endpoint}"))
        if directory is None:
            place = make_among_runs("compare")
        else:
            place = RunDirectory.make(directory, "compare").path
        sides = run_in_turn(
            scenario, of_base, of_new, place, repeats=repeats, following=_following, done=_say_done
        )
    say(visible_line(f"The evidence lies in {place}"))
    results = [[each.as_dict() for each in side] for side in sides]
    return compare(results[0], results[1], conditions, names=(names[0], names[1]), in_pairs=True)


def _name_of(spec: str) -> str:
    from rmqbench.endpoint import hide_password

    return hide_password(spec)


def _opened(spec: str) -> AbstractContextManager[Broker]:
    from rmqbench.broker import open_broker
    from rmqbench.campaign.brokers import BrokerChoice

    if "://" in spec:
        return open_broker(spec, say=say)
    return BrokerChoice.of(spec, None, os.environ).open(say)


@contextmanager
def _following(side: str, number: int) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with shown_progress(console, every=1) as watch:
        yield watch


def _say_done(side: str, number: int, result: Result) -> None:
    said = (
        f"{side} {number}: {result.outcome}, published {result.publish.rate_per_s:,.0f}/s, "
        f"consumed {result.consume.rate_per_s:,.0f}/s"
    )
    say(visible_line(said if result.passed else f"{said}: {result.why}"))


def _results_in(path: Path) -> list[dict[str, Any]]:
    """Return the results that a directory holds: its own, or those of all runs beneath it."""
    places = [path] if path.is_file() else [path / "result.json"]
    if not places[0].exists():
        places = sorted(path.glob("*/result.json"))
    if not places:
        raise UsageError(
            f"There is no result.json in {path}, nor in the directories beneath it.",
            "Name the directory of a run that was judged, or judge it: rmqbench judge DIR",
        )
    found = []
    for each in places:
        try:
            result = json.loads(each.read_text(encoding="utf-8"))
            result["outcome"] = str(result["outcome"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{each} is no result of a run ({error!r}).", "Judge it again: rmqbench judge DIR"
            ) from None
        found.append(result)
    return found


def _show(compared: Comparison, json_file: Path | None) -> bool:
    """Show a comparison, write it where asked to, and return whether all of it was written."""
    from rich.console import Console

    from rmqbench.report.comparison import comparison_view
    from rmqbench.report.terminal import render

    text = json.dumps(compared.as_dict(), indent=2) + "\n"
    if is_stdout(json_file):
        return write_out(text)
    terminal = Console()
    colour = terminal.is_terminal and not terminal.no_color
    write_out(render([comparison_view(compared)], width=terminal.width, colour=colour))
    return json_file is None or write_file(json_file, text, "")
