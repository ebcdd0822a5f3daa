"""``rmqbench run latency``: how long messages take at a given rate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rmqbench.cli.bodies import PayloadOption, SizeOption
from rmqbench.cli.connecting import with_options
from rmqbench.cli.evidence import DirectoryOption, Evidence, KeepDaysOption, KeepOption
from rmqbench.cli.json_file import JsonOption
from rmqbench.cli.load import (
    ConsumersOption,
    ExecutorOption,
    InPlaceOption,
    PrefetchOption,
    ProcessesOption,
    ProducersOption,
    ProgressOption,
    PublishAgainOption,
    QueueKindOption,
    WindowOption,
)
from rmqbench.cli.options import BrokerOptions
from rmqbench.cli.running import run_and_exit
from rmqbench.cli.units import (
    LatencyDurationOption,
    LatencyRateOption,
)

__all__ = ["HELP", "LimitOption", "P99Option", "latency", "limits_of"]

HELP = (
    "1,000 messages a second for 10 seconds, consumed while they are published: how long do they "
    "take, counted from when each was due?\n\n"
    "Example: rmqbench run latency --rate 1000,5000,10000 --duration 1m --p99-ms 20"
)

LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        show_default="none",
        help="A limit on a latency, such as 'confirm.p999_ms <= 50'; may be given several times. "
        "Of confirm, delivery, acknowledge: p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, p9999_ms, "
        "max_ms.",
    ),
]
P99Option = Annotated[
    float | None,
    typer.Option(
        "--p99-ms", show_default="none", help="Short for --limit 'delivery.p99_ms <= MILLISECONDS'."
    ),
]


@with_options(BrokerOptions)
def latency(
    broker: BrokerOptions,
    rate: LatencyRateOption = None,
    duration: LatencyDurationOption = None,
    limit: LimitOption = None,
    p99_ms: P99Option = None,
    size: SizeOption = 100,
    payload: PayloadOption = "bytes",
    queue_kind: QueueKindOption = "classic",
    producers: ProducersOption = 1,
    consumers: ConsumersOption = 1,
    window: WindowOption = 2000,
    prefetch: PrefetchOption = 1000,
    processes: ProcessesOption = None,
    publish_again: PublishAgainOption = False,
    executor: ExecutorOption = None,
    in_place: InPlaceOption = False,
    directory: DirectoryOption = None,
    keep: KeepOption = 10,
    keep_days: KeepDaysOption = 30,
    json_file: JsonOption = None,
    progress_every: ProgressOption = 10_000,
) -> None:
    """Run the scenario of that name."""
    from rmqbench import scenarios
    from rmqbench.runner.executor import opened_executor

    given: dict[str, Any] = {"publish_rate": rate, "duration_s": duration}
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


def limits_of(limits: list[str] | None, p99_ms: float | None) -> tuple[str, ...]:
    """Return the limits that both options ask for."""
    short = [] if p99_ms is None else [f"delivery.p99_ms <= {p99_ms:g}"]
    return (*(limits or ()), *short)
