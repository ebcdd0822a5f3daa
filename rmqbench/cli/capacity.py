"""``rmqbench run capacity``: up to which rate a broker keeps a limit on latencies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.bodies import PayloadOption, SizeOption
from rmqbench.cli.connecting import with_options
from rmqbench.cli.evidence import DirectoryOption, Evidence, KeepDaysOption, KeepOption
from rmqbench.cli.json_file import JsonOption, is_stdout, require_writable, write_file
from rmqbench.cli.latency import LimitOption, P99Option, limits_of
from rmqbench.cli.load import (
    ConsumersOption,
    ExecutorOption,
    InPlaceOption,
    PrefetchOption,
    ProcessesOption,
    ProducersOption,
    QueueKindOption,
    WindowOption,
)
from rmqbench.cli.options import BrokerOptions
from rmqbench.cli.output import say, write_out
from rmqbench.cli.running import INTERRUPTED
from rmqbench.cli.signals import interrupts_told
from rmqbench.cli.units import StartRateOption, TrialOption
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible_line

if TYPE_CHECKING:
    from rmqbench.capacity import CapacityResult
    from rmqbench.runner.run import Progress

__all__ = ["HELP", "capacity"]

HELP = (
    "Up to which rate does the broker keep a limit on latencies? The rate is doubled until it does "
    "not, then what lies between is halved, three times over.\n\n"
    "Example: rmqbench run capacity --p99-ms 20 --queue-kind quorum"
)


@with_options(BrokerOptions)
def capacity(
    broker: BrokerOptions,
    limit: LimitOption = None,
    p99_ms: P99Option = None,
    rate: StartRateOption = None,
    trial: TrialOption = None,
    searches: Annotated[int, typer.Option(min=1, help="How often the rate is searched for.")] = 3,
    precision: Annotated[
        float, typer.Option(min=0.001, max=1, help="How exactly: 0.05 is five percent.")
    ] = 0.05,
    size: SizeOption = 100,
    payload: PayloadOption = "bytes",
    queue_kind: QueueKindOption = "classic",
    producers: ProducersOption = 1,
    consumers: ConsumersOption = 1,
    window: WindowOption = 2000,
    prefetch: PrefetchOption = 1000,
    processes: ProcessesOption = None,
    executor: ExecutorOption = None,
    in_place: InPlaceOption = False,
    directory: DirectoryOption = None,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
) -> None:
    """Search for the highest rate that keeps the limits."""
    from rmqbench import scenarios
    from rmqbench.capacity import measure_capacity
    from rmqbench.report.capacity import trial_line
    from rmqbench.runner.executor import opened_executor

    given = {"publish_rate": rate, "duration_s": trial}
    scenario = scenarios.latency(
        **{name: value for name, value in given.items() if value is not None},
        limits=limits_of(limit, p99_ms),
        size_bytes=size,
        payload=payload,
        queue_kind=queue_kind,
        producers=producers,
        consumers=consumers,
        window=window,
        prefetch=prefetch,
        processes=processes,
    )
    if not scenario.limits:
        raise typer.BadParameter("Give the limit that is to be kept: --p99-ms 20, or --limit.")
    require_writable(json_file)
    evidence = Evidence(directory, keep, keep_days)
    evidence.require_free()
    so_far: list[CapacityResult] = []

    def changed(result: CapacityResult) -> None:
        if result.trials and not result.finished:
            say(trial_line(result.trials[-1]))
        so_far[:] = [result]

    try:
        with (
            opened_executor(executor) as there,
            broker.open() as opened,
            interrupts_told(INTERRUPTED),
        ):
            say(visible_line(f"RabbitMQ {opened.version} at {opened.endpoint}: {opened.how}"))
            result = measure_capacity(
                scenario,
                opened,
                searches=searches,
                precision=precision,
                directory=directory,
                following=_following,
                changed=changed,
                in_place=in_place,
                executor=there,
            )
    except (KeyboardInterrupt, SystemExit, RmqbenchError):
        if so_far:
            _show(so_far[0], json_file)
        raise
    evidence.tidy()
    written = _show(result, json_file)
    raise typer.Exit(result.exit_code or (0 if written else RmqbenchError.exit_code))


@contextmanager
def _following(search: int, rate: float) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with shown_progress(console, every=1) as watch:
        yield watch


def _show(result: CapacityResult, json_file: Path | None) -> bool:
    """Show the result, write it where asked to, and return whether all of it could be written."""
    from rich.console import Console

    from rmqbench.report.capacity import capacity_view
    from rmqbench.report.terminal import render

    text, where = json.dumps(result.as_dict(), indent=2) + "\n", f"It is in {result.directory}"
    if is_stdout(json_file):
        return write_out(text, where)
    terminal = Console()
    colour = terminal.is_terminal and not terminal.no_color
    write_out(render([capacity_view(result)], width=terminal.width, colour=colour), where)
    return json_file is None or write_file(json_file, text, where)
