"""``rmqbench consume``: take messages of any origin from a queue, and show who sent them."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.output import say, write_out
from rmqbench.cli.signals import interrupting
from rmqbench.errors import RmqbenchError
from rmqbench.text import visible, visible_line

if TYPE_CHECKING:
    from rmqbench.cli.progress import Watch
    from rmqbench.clients.counting_consumer import CountingConsumer, Tally

__all__ = ["app"]

app = new_app()

_LOOK_S = 0.1
_SHOWN = 200  # characters of a text that are shown


@app.command(cls=Command)
@with_options(ConnectionOptions)
def consume(
    connection: ConnectionOptions,
    queue: Annotated[str, typer.Option(help="The queue.")] = "work.queue",
    name: Annotated[
        str, typer.Option(help="Shown in the output, and the consumer's name at the broker.")
    ] = "Worker",
    prefetch: Annotated[
        int,
        typer.Option(min=1, max=65_535, help="Unacknowledged deliveries of each worker, at most."),
    ] = 1000,
    expect: Annotated[
        int | None, typer.Option(min=1, show_default="none", help="Stop after N messages.")
    ] = None,
    lazy: Annotated[
        bool,
        typer.Option("--lazy", help="Accepted as for produce: an existing queue is used as it is."),
    ] = False,
    progress_every: Annotated[
        int,
        typer.Option(min=1, help="A progress line every N messages, if there is no terminal."),
    ] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Consumers of the queue.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="Print each message.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the last line as a JSON object.")
    ] = False,
) -> None:
    """Consume a queue and acknowledge each message, until --expect or Ctrl-C.

    Example: rmqbench consume --name Worker-1 --expect 10000
    """
    from rmqbench.amqp import topology as topologies
    from rmqbench.amqp.vector import vector_path_is_on
    from rmqbench.clients.consumer import Subscription
    from rmqbench.clients.counting_consumer import NOBODY, CountingConsumer, Tally
    from rmqbench.message import content_of

    endpoint = connection.endpoint()
    names = [name] if workers == 1 else [f"{name}-{n + 1}" for n in range(workers)]
    topologies.require_name("queue", queue)
    for each in names:
        topologies.require_name("consumer", each)
    topologies.counts(endpoint, queue)  # its error is clearer than a worker's
    tally = Tally(expect)
    printing = threading.Lock()

    def print_message(_: Any, properties: Any, body: bytes) -> None:
        sender = (properties.headers or {}).get("producer_id")
        sender = sender if isinstance(sender, str) else NOBODY
        shown = content_of(body).text
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}… ({len(body)} bytes)"
        line = visible_line(f"from={sender} {shown}")
        with printing:
            print(line, flush=True)

    consumers = [
        CountingConsumer(
            Subscription(
                endpoint=endpoint,
                queue=queue,
                name=each,
                tag=each,
                prefetch=prefetch if expect is None else min(prefetch, expect),
                vector=vector_path_is_on() and not show,
            ),
            tally,
            print_message if show else None,
        )
        for each in names
    ]
    _take(consumers, tally, name, expect, progress_every, as_json)


def _take(
    consumers: list[CountingConsumer],
    tally: Tally,
    name: str,
    expect: int | None,
    every: int,
    as_json: bool,
) -> None:
    from rich.console import Console

    from rmqbench.cli.progress import shown_progress
    from rmqbench.runner.run import Progress

    errors: list[RmqbenchError] = []

    def work(consumer: CountingConsumer) -> None:
        try:
            error = consumer.run()
        except OSError as failure:  # nobody reads it any more, or the disk is full
            stop()
            error = RmqbenchError(f"A message could not be shown ({failure.strerror}).")
        except Exception as failure:  # else it would end only the thread, and pass for a success
            error = RmqbenchError(f"A worker ended by {type(failure).__name__}: {failure}")
        if error is not None:
            errors.append(error)

    def stop() -> None:
        for consumer in consumers:
            consumer.stop()

    def look(watch: Watch) -> None:
        for sender in [*tally.senders]:
            if sender not in greeted:
                greeted.add(sender)
                say(visible_line(f"{name}: from={sender}"))
        watch(Progress(name, tally.acknowledged, expect))

    threads = [
        threading.Thread(target=work, args=(consumer,), daemon=True) for consumer in consumers
    ]
    greeted: set[str] = set()
    started = time.monotonic()
    with (
        interrupting(stop) as interrupted,
        shown_progress(Console(stderr=True), every=every) as watch,
    ):
        watch(Progress(name, 0, expect))  # the rate counts from here
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(_LOOK_S)
            look(watch)
        look(watch)  # for what came while the last one ended
    seconds = time.monotonic() - started
    for error in errors:
        say(f"Error: {visible(str(error))}")
    line = f"consumed={tally.acknowledged}, time={seconds:.2f}s"
    write_out(f"{_as_json(tally, seconds) if as_json else _summary(tally, line)}\n", line)
    if errors:
        raise typer.Exit(errors[0].exit_code)
    if expect is not None and tally.acknowledged < expect:
        too_few = RmqbenchError.exit_code
        raise typer.Exit(128 + interrupted.signal if interrupted.signal else too_few)


def _summary(tally: Tally, line: str) -> str:
    senders = tally.senders.most_common()
    return "\n".join([*(visible_line(f"from={sender}: {n}") for sender, n in senders), line])


def _as_json(tally: Tally, seconds: float) -> str:
    figures = {"consumed": tally.acknowledged, "seconds": round(seconds, 3)}
    return json.dumps(figures | {"from": dict(tally.senders)})
