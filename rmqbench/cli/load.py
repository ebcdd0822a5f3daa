"""What load goes in, and who makes it: options of all commands that run a scenario."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "ConsumersOption",
    "ExecutorOption",
    "InPlaceOption",
    "MessagesOption",
    "MostMessagesOption",
    "PrefetchOption",
    "ProcessesOption",
    "ProducersOption",
    "ProgressOption",
    "PublishAgainOption",
    "QueueKindOption",
    "SettleOption",
    "WindowOption",
]

ExecutorOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT",
        show_default="this host",
        help="The scheduler of a Dask cluster, on whose hosts producers and consumers work.",
    ),
]
InPlaceOption = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Use queues by their plain names in the virtual host of the broker's URL or --vhost, "
        "instead of one made for the run. They must be empty and have no consumer; only what is "
        "new is deleted.",
    ),
]
MessagesOption = Annotated[int, typer.Option(help="Messages to publish.")]
MostMessagesOption = Annotated[
    int | None,
    typer.Option(
        help="Messages to publish.",
        show_default="as above, or with --duration as many as a fast broker takes",
    ),
]
QueueKindOption = Annotated[str, typer.Option(help="classic, lazy or quorum.")]
ProducersOption = Annotated[int, typer.Option(help="Producers, each with its own connection.")]
ConsumersOption = Annotated[
    int, typer.Option(help="Consumers of the work queue, each with its own connection.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        help="Processes that the producers share, and as many that the consumers share; with "
        "--executor, jobs.",
        show_default="a quarter of the processors; with --executor, one each",
    ),
]
WindowOption = Annotated[int, typer.Option(help="Unconfirmed publishes of each producer, at most.")]
ProgressOption = Annotated[
    int,
    typer.Option(min=1, help="A progress line every N messages, if there is no terminal."),
]
PrefetchOption = Annotated[
    int, typer.Option(help="Unacknowledged deliveries of each consumer, at most.")
]

SettleOption = Annotated[
    str,
    typer.Option(
        metavar="ACTIONS",
        help="What consumers of the work queue do with messages: ack at once, ack late, requeue "
        "once or reject; of several each message has one by weight: ack*4,late*5.",
    ),
]
PublishAgainOption = Annotated[
    bool,
    typer.Option(
        "--publish-again",
        help="After an interruption publish what is indeterminate again: nothing may be missing "
        "then, and some may arrive twice.",
    ),
]
