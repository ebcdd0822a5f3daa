"""The handle of a broker: where it is, what it is, and how to stop or kill it if it is ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, final

from rmqbench.broker.reaper import Reaper
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, DeadlineExceeded, UsageError
from rmqbench.management.client import Management

__all__ = ["Broker", "Node", "control_error", "control_timeout"]

# What rabbitmqctl prints besides the error: colours, general advice, its arguments once more (one
# may be a password), its usage (pages of it), and details of itself.
_NOT_THE_ERROR = re.compile(
    r"Please see diagnostics information.*?(?=attempted to contact)"
    r"|^(?:Arguments given:|(?:\x1b\[1m)?Usage(?:\x1b\[0m)?$|Current node details).*"
    r"|\x1b\[[0-9;]*m",
    re.DOTALL | re.MULTILINE,
)
_LONGEST = 1000


class Node(Protocol):
    """A node of our own, in a container or not. Each method may be called in any state."""

    endpoint: Endpoint
    version: str
    starts: list[float]
    """When its process was started, each time (``time.monotonic()``), taken just before."""
    ready_at: float
    """When it was last found ready after a start."""

    reaper: Reaper
    """What ends whatever belongs to the node when we no longer can."""

    @property
    def data_directory(self) -> Path:
        """Where the node keeps its data, as a path of this machine."""

    def is_running(self) -> bool:
        """Whether the node's process is there, paused or not."""

    def start(self) -> None:
        """Start on the data that is there, and wait until ready."""

    def stop(self) -> None:
        """Shut down cleanly; the data stays."""

    def kill(self) -> None:
        """End by SIGKILL; the data stays."""

    def pause(self) -> None:
        """Freeze all processes."""

    def resume(self) -> None:
        """Resume all processes."""

    def log(self, lines: int = 1000) -> str:
        """Return the last lines of the log."""

    def control(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run rabbitmqctl and return its standard output."""


@final
@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is ready.

    ``how`` says in one line what was taken and why, ``image_digest`` of a container which image it
    was exactly. Only a broker that we started ourselves can be
    killed, stopped, paused: on others these methods raise UsageError and do nothing.
    """

    kind: Literal["container", "local", "external"]
    endpoint: Endpoint
    version: str
    how: str
    node: Node | None = field(default=None, repr=False)
    image_digest: str = ""

    @property
    def owned(self) -> bool:
        """Whether the node is ours, and ends with us."""
        return self.node is not None

    @property
    def management(self) -> Management:
        """A new client of its Management API, for one thread; asks nothing until it is used.

        Raise ManagementUnavailable here or in use, if there is no such API.
        """
        return Management(self.endpoint)

    @property
    def started_at(self) -> float | None:
        """When we last started the node's process, by ``time.monotonic()``; None if not ours."""
        return self.starts[-1] if self.starts else None

    @property
    def starts(self) -> Sequence[float]:
        """When we started the node's process, each time, by ``time.monotonic()``; () if not ours.

        Taken just before each start: whatever comes from that process comes later. A pause changes
        nothing, and neither does ``start`` while the node runs.
        """
        return () if self.node is None else tuple(self.node.starts)

    @property
    def ready_at(self) -> float:
        """When the node was last found ready after a start, by ``time.monotonic()``."""
        return self._ours("be ready").ready_at

    @property
    def data_directory(self) -> Path:
        """Where the node keeps its data, as a path of this machine.

        There may be nothing: the engine of a container may be elsewhere.
        """
        return self._ours("touch the data of").data_directory

    @property
    def reaper(self) -> Reaper:
        """What ends whatever belongs to the node when we no longer can."""
        return self._ours("end").reaper

    def is_running(self) -> bool:
        """Whether the node's process is there, paused or not."""
        return self._ours("watch").is_running()

    def start(self) -> None:
        """Start the node again on its data, and wait until it is ready; nothing if it runs."""
        self._ours("start").start()

    def stop(self) -> None:
        """Shut the node down cleanly; its data and ports stay."""
        self._ours("stop").stop()

    def restart(self) -> None:
        """Shut the node down cleanly, start it, and wait until it is ready."""
        node = self._ours("restart")
        node.stop()
        node.start()

    def kill(self) -> None:
        """End the node by SIGKILL; its data and ports stay."""
        self._ours("kill").kill()

    def pause(self) -> None:
        """Freeze the node: connections stay open, nothing answers."""
        self._ours("pause").pause()

    def resume(self) -> None:
        """Resume a paused node."""
        self._ours("resume").resume()

    def log(self, lines: int = 1000) -> str:
        """Return the last lines of the node's log."""
        return self._ours("read the log of").log(lines)

    def control(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run ``rabbitmqctl`` with these arguments on the node and return its standard output.

        It takes half a second or more, because it starts an Erlang system of its own. The argument
        ``--silent`` leaves headings and messages out of the output. Raise BrokerError with the
        command's own words when it fails, or when the node is paused or not running;
        DeadlineExceeded when it takes longer: it is ended then, but what it has begun in the node
        may go on.
        """
        return self._ours("administer").control(*arguments, timeout_s=timeout_s)

    def _ours(self, action: str) -> Node:
        if self.node is None:
            raise UsageError(
                f"Cannot {action} {self.endpoint}: faults are never injected into brokers that are"
                " not ours.",
                "Use a broker that rmqbench starts itself: auto, container or local.",
            )
        return self.node


def control_error(arguments: Sequence[str], status: int, said: str, password: str) -> BrokerError:
    """Return the error of a rabbitmqctl that failed, in its own words and without the rest."""
    words = " ".join(_NOT_THE_ERROR.sub("", said.replace(password, "…")).split())[-_LONGEST:]
    return BrokerError(
        f"{_command(arguments)} failed (status {status}): {words or 'it did not say why'}"
    )


def control_timeout(arguments: Sequence[str], timeout_s: float) -> DeadlineExceeded:
    """Return the error of a rabbitmqctl that did not end in time."""
    return DeadlineExceeded(f"Timed out after {timeout_s:g} s waiting for {_command(arguments)}.")


def _command(arguments: Sequence[str]) -> str:
    """Return a command's name without its arguments, one of which may be a password."""
    return " ".join(["rabbitmqctl", *arguments[:1]])
