"""``rmqbench run``: a scenario, its verdict and its figures, without pytest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer
from rich.console import Console

from rmqbench.broker import Broker
from rmqbench.cli.options import (
    DEFAULT_IMAGE,
    BrokerOption,
    ImageOption,
    JsonOption,
    ManagementUrlOption,
    UrlOption,
    chosen_broker,
    own_broker,
    say,
)
from rmqbench.cli.output import write_out
from rmqbench.cli.progress import shown_progress
from rmqbench.errors import UsageError
from rmqbench.faults import FAULTS, Phase
from rmqbench.report.terminal import render, result_view
from rmqbench.runner.result import Result
from rmqbench.runner.run import run
from rmqbench.runner.scenario import Scenario, faulty, online, reliability, stress

app = typer.Typer(help="Run a scenario and judge it.", no_args_is_help=True)

DirectoryOption = Annotated[
    Path | None,
    typer.Option(help="Where the evidence is kept.", show_default="a new temporary directory"),
]
InPlaceOption = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Use the queues by their plain names in the URL's virtual host, instead of a virtual "
        "host made for the run. They must be empty; only what was not there before is deleted.",
    ),
]
MessagesOption = Annotated[int, typer.Option(help="Messages to publish.")]
QueueKindOption = Annotated[str, typer.Option(help="classic, lazy or quorum.")]
ProducersOption = Annotated[int, typer.Option(help="Producers, each in a process of its own.")]
ConsumersOption = Annotated[
    int, typer.Option(help="Consumers of the work queue, each in a process of its own.")
]
SizeOption = Annotated[
    int | None,
    typer.Option(help="Size of each body in bytes.", show_default="as long as head and text"),
]
WindowOption = Annotated[int, typer.Option(help="Publishes without a confirm, at the most.")]
ProgressOption = Annotated[
    int,
    typer.Option(min=1, help="A progress line every N messages, where there is no terminal."),
]
PrefetchOption = Annotated[
    int, typer.Option(help="Deliveries without an acknowledgement, at the most.")
]


def _command(describe: Callable[..., Scenario]) -> Callable[..., None]:
    """Make the command of a scenario; its defaults are the scenario's own."""
    own = describe()
    queue = own.queues[0]
    every = max(10_000, own.most_messages // 20)

    def command(
        url: UrlOption = None,
        broker: BrokerOption = None,
        image: ImageOption = DEFAULT_IMAGE,
        management_url: ManagementUrlOption = None,
        messages: MessagesOption = own.most_messages,
        size: SizeOption = own.size_bytes,
        queue_kind: QueueKindOption = queue.kind,
        producers: ProducersOption = own.producers,
        consumers: ConsumersOption = queue.consumers,
        window: WindowOption = own.window,
        prefetch: PrefetchOption = queue.prefetch,
        in_place: InPlaceOption = False,
        directory: DirectoryOption = None,
        json_file: JsonOption = None,
        progress_every: ProgressOption = every,
    ) -> None:
        scenario = describe(
            messages=messages,
            size_bytes=size,
            queue_kind=queue_kind,
            producers=producers,
            consumers=consumers,
            window=window,
            prefetch=prefetch,
        )
        _run(
            scenario,
            chosen_broker(url, broker, image, management_url),
            directory,
            json_file,
            progress_every,
            in_place=in_place,
        )

    return command


FaultOption = Annotated[str, typer.Option(help="The fault; --list tells them all.")]
DuringOption = Annotated[
    str | None,
    typer.Option(help="publish, backlog or drain.", show_default="the first that it is for"),
]
PublishAgainOption = Annotated[
    bool,
    typer.Option(
        "--publish-again",
        help="After an interruption publish again what is indeterminate: nothing may be missing "
        "then, and some may come twice.",
    ),
]


def _list_faults(wanted: bool) -> None:
    if wanted:
        for name, kind in FAULTS.items():
            write_out(f"{name} ({', '.join(kind.phases)}): {kind.text}\n")
        raise typer.Exit


@app.command(
    "faults",
    help="10,000 messages under a fault, on a broker of our own: is anything lost that RabbitMQ "
    "promises to keep?\n\n"
    "Example: rmqbench run faults --fault kill-broker --during drain --queue-kind quorum",
)
def _faults(
    fault: FaultOption = "kill-broker",
    during: DuringOption = None,
    publish_again: PublishAgainOption = False,
    broker: BrokerOption = None,
    image: ImageOption = DEFAULT_IMAGE,
    messages: MessagesOption = 10_000,
    queue_kind: QueueKindOption = "classic",
    consumers: Annotated[
        int | None, typer.Option(help="Consumers of the work queue.", show_default="1 or 3")
    ] = None,
    directory: DirectoryOption = None,
    json_file: JsonOption = None,
    progress_every: ProgressOption = 10_000,
    list_them: Annotated[
        bool, typer.Option("--list", callback=_list_faults, is_eager=True, help="List the faults.")
    ] = False,
) -> None:
    more = {} if consumers is None else {"consumers": consumers}
    scenario = faulty(
        fault,
        cast("Phase | None", during),
        messages=messages,
        queue_kind=queue_kind,
        publish_again=publish_again,
        **more,
    )
    own = chosen_broker(None, own_broker(broker), image, None)
    _run(scenario, own, directory, json_file, progress_every)


app.command(
    "reliability",
    help="10,000 messages, published while no consumer is there, then drained: every one must "
    "arrive, once, unharmed.\n\n"
    "Example: rmqbench run reliability --url amqp://user:password@host --queue-kind quorum",
)(_command(reliability))
app.command(
    "online",
    help="10,000 messages, consumed while they are published: every one must arrive, once, "
    "unharmed.\n\n"
    "Example: rmqbench run online --consumers 3 --queue-kind quorum",
)(_command(online))
app.command(
    "stress",
    help="1,000,000 messages through disk-backed queues, at the broker's own speed; every one is "
    "checked.\n\n"
    "Example: rmqbench run stress --broker local --json stress.json",
)(_command(stress))


def _run(
    scenario: Scenario,
    broker: AbstractContextManager[Broker],
    directory: Path | None,
    json_file: Path | None,
    every: int,
    *,
    in_place: bool = False,
) -> NoReturn:
    """Open the broker, run the scenario, show its result and exit with the verdict's code."""
    require_writable(json_file)
    with broker as opened, shown_progress(Console(stderr=True), every=every) as watch:
        result = run(scenario, opened, directory=directory, in_place=in_place, watch=watch)
    show(result, json_file)


def require_writable(json_file: Path | None) -> None:
    """Refuse a file that cannot be written before a long run, not after it (UsageError)."""
    if json_file is None or str(json_file) == "-":
        return
    parent = json_file.parent
    if json_file.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(
            f"The result cannot be written to {json_file}.", "Name a file in a folder that exists."
        )


def show(result: Result, json_file: Path | None) -> NoReturn:
    """Show the result, write it where asked to, and exit with the verdict's code, come what may."""
    to_stdout = str(json_file) == "-"
    text = json.dumps(result.as_dict(), indent=2) + "\n"
    where = f"It is in {result.directory}"
    if to_stdout:
        write_out(text, where)
    else:
        # Rendered first: rich exits with 1, which is a verdict, where nobody reads its output.
        terminal = Console()
        colour = terminal.is_terminal and not terminal.no_color
        write_out(render([result_view(result)], width=terminal.width, colour=colour), where)
        if json_file is not None:
            _write_file(json_file, text, where)
    raise typer.Exit(result.verdict.exit_code)


def _write_file(path: Path, text: str, instead: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        say(f"The result could not be written out to {path} ({error.strerror}). {instead}")
