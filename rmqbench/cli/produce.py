"""``rmqbench produce``: publish messages, and report what became of them."""

from __future__ import annotations

import json
import socket
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmqbench.cli.bodies import PayloadOption, SizeOption
from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.output import say, write_out
from rmqbench.cli.signals import interrupting
from rmqbench.cli.units import RateOption
from rmqbench.endpoint import Endpoint
from rmqbench.errors import DeadlineExceeded, RmqbenchError, UsageError
from rmqbench.text import counted, visible_line

if TYPE_CHECKING:
    from rmqbench.amqp.topology import QueueKind, Topology
    from rmqbench.clients.producer import ProducerPlan

__all__ = ["app"]

app = new_app()

_READY_S = 3.0  # how long a queue may take to show all that it has confirmed


@app.command(cls=Command)
@with_options(ConnectionOptions)
def produce(
    connection: ConnectionOptions,
    queue: Annotated[str, typer.Option(help="The work queue.")] = "work.queue",
    audit_queue: Annotated[str, typer.Option(help="The audit queue.")] = "audit.queue",
    count: Annotated[int, typer.Option(min=1, help="Messages to publish.")] = 10_000,
    durable: Annotated[
        bool,
        typer.Option(
            help="Whether the queues are durable (RabbitMQ 4 deprecates shared ones that are not)."
        ),
    ] = True,
    lazy: Annotated[bool, typer.Option("--lazy", help="Disk-backed queues.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Empty both queues first.")] = False,
    progress_every: Annotated[
        int,
        typer.Option(min=1, help="A progress line every N messages, if there is no terminal."),
    ] = 10_000,
    producer_id: Annotated[
        str | None,
        typer.Option(show_default="login name", help="Goes into the header producer_id."),
    ] = None,
    text: Annotated[str, typer.Option(help="The text of each message.")] = "Hello World",
    size: SizeOption = None,
    payload: PayloadOption = "bytes",
    rate: RateOption = None,
    confirm_window: Annotated[
        int, typer.Option(min=1, help="Unconfirmed publishes, at most.")
    ] = 2000,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the last line as a JSON object.")
    ] = False,
) -> None:
    """Publish messages to an exchange with a work and an audit queue, each confirmed.

    Example: rmqbench produce --count 1000000 --lazy --purge --text "good morning"
    """
    from rmqbench.amqp import topology as topologies
    from rmqbench.amqp.topology import Queue, Topology
    from rmqbench.amqp.vector import vector_path_is_on
    from rmqbench.broker import open_broker
    from rmqbench.clients.producer import ProducerPlan
    from rmqbench.message import Recipe
    from rmqbench.payload import file_digest
    from rmqbench.scenarios import login_name
    from rmqbench.schedule import Schedule

    schedule = None if rate is None else Schedule.of(rate)
    if schedule is not None and schedule.most < count:
        raise UsageError(
            f"At the rate {rate!r} {schedule.most:,} messages are due, and the count is {count:,}.",
            f"Give --count {schedule.most}, or a rate that goes on.",
        )
    endpoint = connection.endpoint()
    kind: QueueKind = "lazy" if lazy else "classic"
    topology = Topology(
        queues=(Queue(queue, kind, durable), Queue(audit_queue, kind, durable)),
    )
    recipe = Recipe(
        run=uuid.uuid4(),
        text=text,
        size_bytes=size,
        payload=payload,
        payload_digest=file_digest(payload),
        producer_id=producer_id or login_name(),
        host=socket.gethostname(),
    )
    with open_broker(endpoint.url()) as broker:
        declared = topologies.declare(endpoint, topology, broker.version)
    for note in declared.notes:
        say(f"Note: {note}")
    if purge:
        for name in topology.queue_names:
            purged = counted(topologies.purge(endpoint, name), "message", form=",")
            say(f"{purged} purged from {name}")
    with tempfile.TemporaryDirectory(prefix="rmqbench-produce-") as directory:
        plan = ProducerPlan(
            endpoint=endpoint,
            recipe=recipe,
            number=0,
            count=count,
            directory=Path(directory),
            exchange=topology.exchange,
            routing_key=topology.routing_key,
            window=confirm_window,
            schedule=schedule,
            vector=vector_path_is_on(),
        )
        _publish(plan, topology, progress_every, as_json)


def _publish(plan: ProducerPlan, topology: Topology, every: int, as_json: bool) -> None:
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress
    from rmqbench.clients.producer import Producer
    from rmqbench.pieces import count_where
    from rmqbench.run_directory.ledger import PublishLedger
    from rmqbench.runner.run import Progress
    from rmqbench.verdict.evidence import CONFIRMED, NACKED, RETURNED, SENT

    PublishLedger.create(plan.directory, plan.count)
    ledger = PublishLedger.read(plan.directory)
    with shown_progress(Console(stderr=True), every=every) as watch:
        producer = Producer(
            plan, watch=lambda settled: watch(Progress("publish", settled, plan.count))
        )
        with interrupting(producer.stop) as interrupted:
            report = producer.run()

    def count(bits: int, of: int) -> int:
        return count_where(ledger.state, lambda state: state & of == bits)

    known = CONFIRMED | NACKED | RETURNED
    sent = count(SENT, SENT)
    confirmed = count(CONFIRMED, known)
    figures: dict[str, int | None] = {
        "published": sent,
        "confirmed": confirmed,
        "nacked": count(NACKED, NACKED),
        "returned": count(RETURNED, RETURNED),
        "unconfirmed": count(SENT, SENT | known),
        "in_queue_ready": _ready(plan.endpoint, topology.queue_names[0], confirmed),
    }
    seconds = (report.ended_ns - report.started_ns) / 1e9
    for interruption in report.interruptions:
        say(visible_line(f"Interrupted: {interruption.why}"))
    if report.error:
        say(visible_line(f"Error: {report.error}"))
    shown = {
        name: value
        for name, value in figures.items()
        if value or name in ("published", "confirmed", "in_queue_ready")
    }
    line = ", ".join(f"{k}={'?' if v is None else v}" for k, v in shown.items())
    line = f"{line}, time={seconds:.2f}s"
    as_object = json.dumps(figures | {"seconds": round(seconds, 3)})
    write_out(f"{as_object if as_json else line}\n", line)
    if interrupted.signal is not None:
        raise typer.Exit(128 + interrupted.signal)
    if figures["nacked"] or figures["returned"]:
        raise typer.Exit(1)
    if confirmed < plan.count:
        raise typer.Exit(3)


def _ready(endpoint: Endpoint, queue: str, confirmed: int) -> int | None:
    """Return the exact number of ready messages; a queue shows some a moment after their confirms.

    None if it cannot be known any more: what was confirmed is reported all the same.
    """
    from rmqbench.amqp import topology as topologies
    from rmqbench.waiting import wait_until

    ready = 0

    def all_there() -> bool:
        nonlocal ready
        ready, consumers = topologies.counts(endpoint, queue)
        return ready >= confirmed or consumers > 0

    try:
        wait_until(all_there, _READY_S, "the queue to show all messages", every_s=0.1)
    except DeadlineExceeded:
        return ready  # it is what the queue says
    except RmqbenchError as error:
        say(visible_line(f"The messages in the queue could not be counted: {error}"))
        return None
    return ready
