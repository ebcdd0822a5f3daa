"""Answers of the Management API, as the dashboard gets them, and what it shows of them."""

import pytest
from rich.console import Console

from rmqbench.management.answers import (
    read_alarms,
    read_connections,
    read_consumers,
    read_nodes,
    read_queues,
)
from rmqbench.monitor.model import (
    make_picture,
)
from rmqbench.monitor.view import Dashboard, Scene, render

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")


TIME_S = 1_700_000_000.0
HOSTILE = ["\x1b[31mred\x1b]0;title\x07", "[bold red]x[/]", "two\nlines\r", "宽" * 90, "\u202eabc"]
HOSTILE += ["\ud800", "x" * 255, "", "e\u0301\ufe0f", "\x9b2J"]


def queue(name="work", ready=0, unacknowledged=0, publish=0, deliver=0, ack=0, **more):
    rates = {"publish": publish, "deliver_get": deliver, "ack": ack}
    return {
        "name": name,
        "vhost": "/",
        "type": "classic",
        "state": "running",
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
        "message_stats": {f"{key}_details": {"rate": rate} for key, rate in rates.items()},
    } | more


def connection(name="127.0.0.1:5000 -> 127.0.0.1:5672", given="billing", **more):
    return {
        "name": name,
        "user_provided_name": given,
        "peer_host": "127.0.0.1",
        "peer_port": 5000,
        "user": "ann",
        "vhost": "/",
        "state": "running",
        "channels": 2,
        "recv_oct_details": {"rate": 1500.0},
        "send_oct_details": {"rate": 0.0},
    } | more


def consumer(tag="tag-1", queue="work", **more):
    return {
        "consumer_tag": tag,
        "queue": {"name": queue, "vhost": "/"},
        "channel_details": {
            "connection_name": "127.0.0.1:5000 -> 127.0.0.1:5672",
            "peer_host": "127.0.0.1",
            "peer_port": 5000,
        },
        "prefetch_count": 1000,
        "ack_required": True,
        "activity_status": "up",
    } | more


NODE = {
    "name": "rabbit@here",
    "running": True,
    "mem_used": 150_000_000,
    "mem_limit": 10_000_000_000,
    "disk_free": 80_000_000_000,
    "disk_free_limit": 50_000_000,
}


def picture(*queues, connections=(), consumers=(), nodes=(NODE,), alarms=(), time_s=TIME_S):
    return make_picture(
        time_s,
        "4.1.2",
        queues=read_queues(queues),
        connections=read_connections(connections),
        consumers=read_consumers(consumers),
        nodes=None if nodes is None else read_nodes(nodes),
        alarms=None if alarms is None else read_alarms(alarms),
    )


def text(shown, width=100, **more):
    return render(Scene("http://b:15672", shown, **more), width=width, colour=False)


def on_a_screen(shown, columns, lines, **more):
    """Return the lines as the live dashboard draws them into this size."""
    console = Console(width=columns, height=lines, force_terminal=False, legacy_windows=False)
    scene = Scene("http://b:15672", shown, live=True, keys=True, **more)
    with console.capture() as captured:
        console.print(Dashboard(scene), end="")
    return captured.get().split("\n")
