"""The connection options of the tools: one URL, or its parts."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer

from rmqbench.cli.options import ManagementUrlOption, UrlOption
from rmqbench.endpoint import Endpoint, host_and_port
from rmqbench.errors import UsageError

__all__ = [
    "HostOption",
    "ManagementUrlOption",
    "PasswordOption",
    "PortOption",
    "UrlOption",
    "UsernameOption",
    "VhostOption",
    "chosen_endpoint",
]

HostOption = Annotated[
    str | None, typer.Option(show_default="localhost", help="The broker's host.")
]
PortOption = Annotated[
    int | None, typer.Option(min=1, max=65_535, show_default="5672", help="Its AMQP port.")
]
UsernameOption = Annotated[str | None, typer.Option(show_default="guest", help="The user.")]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        show_default="guest",
        help="The password. Instead of it, the environment variable RMQBENCH_PASSWORD, which keeps "
        "it out of the process list.",
    ),
]
VhostOption = Annotated[str | None, typer.Option(show_default="/", help="The virtual host.")]


def chosen_endpoint(
    url: str | None,
    host: str | None,
    port: int | None,
    username: str | None,
    password: str | None,
    vhost: str | None,
    management_url: str | None = None,
) -> Endpoint:
    """Give the endpoint that the options name; without any, RMQBENCH_URL, or localhost.

    RMQBENCH_MANAGEMENT_URL counts only where no option names the broker: it is of another one.
    Raises UsageError where --url and its parts are mixed.
    """
    parts = {"host": host, "port": port, "username": username, "password": password}
    given = {name: value for name, value in (parts | {"vhost": vhost}).items() if value is not None}
    if url and given:
        raise UsageError(
            f"--url and --{next(iter(given))} both say where the broker is.",
            "Give one URL, or its parts.",
        )
    if not given and not url:
        url = os.environ.get("RMQBENCH_URL")
        management_url = management_url or os.environ.get("RMQBENCH_MANAGEMENT_URL")
    if url:
        return Endpoint.from_url(url, management_url)
    endpoint = Endpoint.from_url(f"amqp://{host_and_port(host or 'localhost')}", management_url)
    return replace(
        endpoint,
        port=port or endpoint.port,
        username=username or endpoint.username,
        password=password or os.environ.get("RMQBENCH_PASSWORD") or endpoint.password,
        virtual_host=vhost or endpoint.virtual_host,
    )
