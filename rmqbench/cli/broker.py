"""``rmqbench broker``: a RabbitMQ of our own, for as long as one wants it."""

from __future__ import annotations

import threading

import typer

from rmqbench.broker import install_local, open_broker
from rmqbench.cli.options import DEFAULT_IMAGE, BrokerOption, ImageOption, own_broker, say
from rmqbench.cli.output import write_out
from rmqbench.errors import BrokerUnavailable, UsageError

app = typer.Typer(help="Start a RabbitMQ of our own, or fetch one.", no_args_is_help=True)

_LOOK_S = 2.0


@app.command()
def start(broker: BrokerOption = None, image: ImageOption = DEFAULT_IMAGE) -> None:
    """Run a broker in the foreground, on loopback ports of its own; Ctrl-C ends it.

    Example: rmqbench broker start --broker local
    """
    spec = own_broker(broker)
    if "://" in spec:
        raise UsageError(
            "A broker at a URL is not ours to start.", "Choose --broker auto, container or local."
        )
    with open_broker(spec, image=image, say=say) as opened:
        endpoint = opened.endpoint
        write_out(
            f"RabbitMQ {opened.version}: {opened.how}\n"
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
            while opened.is_running():
                never.wait(_LOOK_S)
        except KeyboardInterrupt:
            say("Ending it.")
            return
        raise BrokerUnavailable("The broker ended by itself.", f"Its log:\n{opened.log(20)}")


@app.command()
def install() -> None:
    """Fetch the local broker ahead of time: the distribution's packages, into the user's cache.

    Nothing is changed on the system, and no root is needed.

    Example: rmqbench broker install
    """
    write_out(f"{install_local(say)}\n")
