"""``rmqbench run``: a scenario, its verdict and its figures, without pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rmqbench.cli import campaign, capacity, latency
from rmqbench.cli.bodies import PayloadOption, SizeOption
from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import with_options
from rmqbench.cli.evidence import DirectoryOption, Evidence, KeepDaysOption, KeepOption
from rmqbench.cli.json_file import JsonOption
from rmqbench.cli.load import (
    ConsumersOption,
    ExecutorOption,
    InPlaceOption,
    MessagesOption,
    MostMessagesOption,
    PrefetchOption,
    ProcessesOption,
    ProducersOption,
    ProgressOption,
    PublishAgainOption,
    QueueKindOption,
    SettleOption,
    WindowOption,
)
from rmqbench.cli.options import BrokerOptions, OwnBrokerOptions
from rmqbench.cli.output import write_out
from rmqbench.cli.running import run_and_exit
from rmqbench.cli.units import (
    ChurnOption,
    DurationOption,
    EveryOption,
    RateOption,
    SoakDurationOption,
    SoakRateOption,
)

if TYPE_CHECKING:
    from rmqbench.faults import Phase
    from rmqbench.scenarios import Scenario

__all__ = ["app"]

app = new_app(
    cls=campaign.ScenarioOrFile,
    help="Run a scenario and judge it, or all runs of a campaign: rmqbench run FILE.toml.",
)


# The scenarios' own, for the help; to import the scenarios for it would take too long.
_SMALL: Mapping[str, Any] = {
    "messages": 10_000,
    "size_bytes": None,
    "queue_kind": "classic",
    "producers": 1,
    "consumers": 1,
    "window": 2000,
    "prefetch": 1000,
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "reliability": _SMALL,
    "online": _SMALL,
    "stress": {
        **_SMALL,
        "messages": 1_000_000,
        "size_bytes": 100,
        "queue_kind": "lazy",
        "prefetch": 5000,
    },
    "latency": {
        **_SMALL,
        "messages": None,
        "duration_s": 10.0,
        "publish_rate": 1000.0,
        "size_bytes": 100,
    },
}


def _command(name: str) -> Callable[..., None]:
    """Make the command of a scenario."""
    own = DEFAULTS[name]
    every = max(10_000, own["messages"] // 20)

    @with_options(BrokerOptions)
    def command(
        broker: BrokerOptions,
        messages: MostMessagesOption = None,
        size: SizeOption = own["size_bytes"],
        payload: PayloadOption = "bytes",
        queue_kind: QueueKindOption = own["queue_kind"],
        producers: ProducersOption = own["producers"],
        consumers: ConsumersOption = own["consumers"],
        window: WindowOption = own["window"],
        prefetch: PrefetchOption = own["prefetch"],
        settle: SettleOption = "ack",
        processes: ProcessesOption = None,
        duration: DurationOption = None,
        rate: RateOption = None,
        churn: ChurnOption = None,
        publish_again: PublishAgainOption = False,
        executor: ExecutorOption = None,
        in_place: InPlaceOption = False,
        directory: DirectoryOption = None,
        keep: KeepOption = 10,
        keep_days: KeepDaysOption = 30,
        json_file: JsonOption = None,
        progress_every: ProgressOption = every,
    ) -> None:
        from rmqbench import scenarios
        from rmqbench.runner.executor import opened_executor

        if messages is None and duration is None and "@" not in (rate or ""):
            messages = own["messages"]
        describe: Callable[..., Scenario] = getattr(scenarios, name)
        scenario = describe(
            messages=messages,
            duration_s=duration,
            publish_rate=rate,
            size_bytes=size,
            payload=payload,
            queue_kind=queue_kind,
            producers=producers,
            consumers=consumers,
            window=window,
            prefetch=prefetch,
            settle=settle,
            processes=processes,
            churn=churn,
            publish_again=publish_again,
        )
        evidence = Evidence(directory, keep, keep_days)
        with opened_executor(executor) as there:
            run_and_exit(
                scenario,
                broker.open(),
                evidence,
                json_file,
                progress_every,
                in_place=in_place,
                executor=there,
            )

    return command


FaultOption = Annotated[str, typer.Option(help="The fault; --list shows them all.")]
DuringOption = Annotated[
    str | None,
    typer.Option(help="publish, backlog or drain.", show_default="the first one of the fault"),
]


def _list_faults(wanted: bool) -> None:
    if wanted:
        from rmqbench.faults import FAULTS

        for name, kind in FAULTS.items():
            write_out(f"{name} ({', '.join(kind.phases)}): {kind.text}\n")
        raise typer.Exit


@app.command(
    "faults",
    cls=Command,
    help="10,000 messages under a fault, on a broker of our own: is anything lost that RabbitMQ "
    "promises to keep?\n\n"
    "Example: rmqbench run faults --fault kill-broker --during drain --queue-kind quorum",
)
@with_options(OwnBrokerOptions)
def _faults(
    own: OwnBrokerOptions,
    fault: FaultOption = "kill-broker",
    during: DuringOption = None,
    publish_again: PublishAgainOption = False,
    messages: MessagesOption = 10_000,
    size: SizeOption = None,
    payload: PayloadOption = "bytes",
    queue_kind: QueueKindOption = "classic",
    consumers: Annotated[
        int | None, typer.Option(help="Consumers of the work queue.", show_default="1 or 3")
    ] = None,
    settle: SettleOption = "ack",
    directory: DirectoryOption = None,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
    progress_every: ProgressOption = 10_000,
    list_them: Annotated[
        bool, typer.Option("--list", callback=_list_faults, is_eager=True, help="List the faults.")
    ] = False,
) -> None:
    from rmqbench.scenarios import faulty

    more = {} if consumers is None else {"consumers": consumers}
    scenario = faulty(
        fault,
        cast("Phase | None", during),
        messages=messages,
        size_bytes=size,
        payload=payload,
        queue_kind=queue_kind,
        settle=settle,
        publish_again=publish_again,
        **more,
    )
    evidence = Evidence(directory, keep, keep_days)
    run_and_exit(scenario, own.open(), evidence, json_file, progress_every)


@app.command(
    "storm",
    cls=Command,
    help="200 clients lose their connections at once, and connect again at once, while they work: "
    "do all come back, and is anything lost?\n\n"
    "Example: rmqbench run storm --fault kill-broker --queue-kind quorum",
)
@with_options(OwnBrokerOptions)
def _storm(
    own: OwnBrokerOptions,
    fault: Annotated[
        str, typer.Option(help="restart-broker, kill-broker, or another that cuts off all clients.")
    ] = "restart-broker",
    publish_again: PublishAgainOption = False,
    messages: MessagesOption = 10_000,
    queue_kind: QueueKindOption = "classic",
    producers: ProducersOption = 100,
    consumers: ConsumersOption = 99,
    processes: ProcessesOption = None,
    directory: DirectoryOption = None,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
    progress_every: ProgressOption = 10_000,
) -> None:
    from rmqbench.scenarios import storm

    scenario = storm(
        fault,
        messages=messages,
        queue_kind=queue_kind,
        producers=producers,
        consumers=consumers,
        processes=processes,
        publish_again=publish_again,
    )
    evidence = Evidence(directory, keep, keep_days)
    run_and_exit(scenario, own.open(), evidence, json_file, progress_every)


@app.command(
    "soak",
    cls=Command,
    help="Messages at a steady rate for half an hour, or for hours, consumed while they are "
    "published. Every minute the run is judged, and evidence that is clean is let go. With "
    "--fault, on a broker of our own, a fault strikes again and again.\n\n"
    "Example: rmqbench run soak --duration 8h --fault kill-broker --every 10m",
)
@with_options(BrokerOptions)
def _soak(
    broker: BrokerOptions,
    duration: SoakDurationOption = None,
    rate: SoakRateOption = None,
    fault: Annotated[
        str | None,
        typer.Option(help="One that is for publish, of `rmqbench run faults --list`."),
    ] = None,
    every: EveryOption = None,
    size: SizeOption = None,
    payload: PayloadOption = "bytes",
    queue_kind: QueueKindOption = "classic",
    producers: ProducersOption = 1,
    consumers: ConsumersOption = 1,
    window: WindowOption = 2000,
    prefetch: PrefetchOption = 1000,
    processes: ProcessesOption = None,
    churn: ChurnOption = None,
    publish_again: PublishAgainOption = False,
    in_place: InPlaceOption = False,
    directory: DirectoryOption = None,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
    progress_every: ProgressOption = 1_000_000,
) -> None:
    from rmqbench.scenarios import soak

    given: dict[str, Any] = {"every_s": every, "duration_s": duration, "publish_rate": rate}
    scenario = soak(
        fault=fault,
        **{name: value for name, value in given.items() if value is not None},
        size_bytes=size,
        payload=payload,
        queue_kind=queue_kind,
        producers=producers,
        consumers=consumers,
        window=window,
        prefetch=prefetch,
        processes=processes,
        churn=churn,
        publish_again=publish_again,
    )
    evidence = Evidence(directory, keep, keep_days)
    run_and_exit(scenario, broker.open(), evidence, json_file, progress_every, in_place=in_place)


app.command(
    "reliability",
    cls=Command,
    help="10,000 messages, published while no consumer is connected, then drained: every one "
    "must arrive, once and intact.\n\n"
    "Example: rmqbench run reliability --url amqp://user:password@host --queue-kind quorum",
)(_command("reliability"))
app.command(
    "online",
    cls=Command,
    help="10,000 messages, consumed while they are published: every one must arrive, once and "
    "intact.\n\n"
    "Example: rmqbench run online --queue-kind quorum --consumers 3",
)(_command("online"))
app.command(
    "stress",
    cls=Command,
    help="1,000,000 messages through disk-backed queues, at the broker's own speed; every one is "
    "checked.\n\n"
    "Example: rmqbench run stress --broker local --json stress.json",
)(_command("stress"))


app.command("latency", cls=Command, help=latency.HELP)(latency.latency)
app.command("capacity", cls=Command, help=capacity.HELP)(capacity.capacity)
app.command(campaign.FILE, cls=Command)(campaign.campaign)
