"""``rmqbench broker``: a RabbitMQ of our own, until Ctrl-C ends it."""

from __future__ import annotations

import threading

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import with_options
from rmqbench.cli.options import OwnBrokerOptions
from rmqbench.cli.output import say, write_out
from rmqbench.errors import BrokerUnavailable

__all__ = ["app"]

app = new_app(help="Start a RabbitMQ of our own, or fetch one.")

_LOOK_S = 2.0


@app.command(cls=Command)
@with_options(OwnBrokerOptions)
def start(own: OwnBrokerOptions) -> None:
    """Run a broker in the foreground, on loopback ports of its own; Ctrl-C ends it.

    Example: rmqbench broker start --broker local
    """
    with own.open() as broker:
        endpoint = broker.endpoint
        write_out(
            f"RabbitMQ {broker.version}: {broker.how}\n"
            f"AMQP URL        {endpoint.url()}\n"
            f"management URL  {endpoint.management_url}\n"
            f"username        {endpoint.username}\n"
            f"password        {endpoint.password}\n"
        )
        say(
            f"Test it: rmqbench run reliability --url {endpoint.url()} "
            f"--management-url {endpoint.management_url}\nCtrl-C ends it."
        )
        never = threading.Event()
        try:
            while broker.is_running():
                never.wait(_LOOK_S)
        except KeyboardInterrupt:
            say("Ending it.")
            return
        raise BrokerUnavailable("The broker ended by itself.", f"Its log:\n{broker.log(20)}")


@app.command(cls=Command)
def install() -> None:
    """Fetch the local broker ahead of time: the distribution's packages, into the user's cache.

    Nothing is changed on the system, and no root is needed.

    Example: rmqbench broker install
    """
    from rmqbench.broker import install_local

    write_out(f"{install_local(say)}\n")
