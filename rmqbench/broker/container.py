"""A RabbitMQ node of our own in a Docker container, through testcontainers."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

from rmqbench.broker.engine import Engine
from rmqbench.broker.handle import control_error, control_timeout
from rmqbench.broker.places import free_ports
from rmqbench.broker.reaper import Reaper
from rmqbench.broker.starting import PortsTaken, running_node, wait_until_ready
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from rmqbench.waiting import wait_until

__all__ = ["ContainerNode", "open_container_node"]

_READY_TIMEOUT_S = 90.0
_FREEZE_S = 10.0
_STOP_TIMEOUT_S = 60
_EXECUTION_GRACE_S = 5.0  # for the engine, before and after what it executes
_AMQP, _MANAGEMENT = 5672, 15672
_DATA = "/var/lib/rabbitmq"
_PORTS_TAKEN = ("port is already allocated", "address already in use")


@contextlib.contextmanager
def open_container_node(image: str, say: Callable[[str], None]) -> Iterator[ContainerNode]:
    """Run a container for as long as the context lasts; nothing of it is left afterwards.

    The image is pulled if it is not there. Raise BrokerUnavailable, DeadlineExceeded.
    """
    with contextlib.closing(Engine()) as engine:
        engine.require_image(image, say)
        say(f"Starting a container of the image {image}")
        with running_node(lambda reaper: ContainerNode(engine, image, reaper)) as node:
            yield node


@final
class ContainerNode:
    """One container with fixed ports on 127.0.0.1: they, and its data, outlive a kill."""

    def __init__(self, engine: Engine, image: str, reaper: Reaper) -> None:
        self._engine = engine
        self._image = image
        self.reaper = reaper
        self._name = f"rmqbench-{secrets.token_hex(8)}"
        self._made: Any = None  # testcontainers' object
        self._container: Any = None  # the Docker client's
        self._held: dict[str, object] = {}
        self._is_being_made = False  # as far as we know: the engine has not answered
        amqp, management = free_ports(2)
        self.endpoint = Endpoint(
            host="127.0.0.1",
            port=amqp,
            username="rmqbench",
            password=secrets.token_hex(16),
            management_url=f"http://127.0.0.1:{management}",
        )
        self._ports = {_AMQP: amqp, _MANAGEMENT: management}
        self.version = ""
        self.starts: list[float] = []
        self.ready_at = 0.0

    @property
    def name(self) -> str:
        """The container's name."""
        return self._name

    @property
    def data_directory(self) -> Path:
        """Where the engine keeps the node's data: on this machine, if the engine is."""
        with self._engine.errors("The container cannot be asked for its volumes"):
            self._container.reload()
            mounts = self._container.attrs["Mounts"]
        return next(Path(each["Source"]) for each in mounts if each["Destination"] == _DATA)

    @property
    def image_digest(self) -> str:
        """By what the image can be had again: its digest, or its ID if it is of no registry."""
        with self._engine.errors(f"The image {self._image} cannot be asked for its digest"):
            found = self._container.image.attrs
        digests: list[str] = found.get("RepoDigests") or []
        return digests[0] if digests else str(found["Id"])

    def is_running(self) -> bool:
        """Whether the node's process is there, paused or not."""
        with self._engine.errors("The container cannot be asked for its state"):
            return self._state() in ("running", "paused")

    def start(self) -> None:
        """Start the node on the data it has, and wait until it is ready.

        Raise BrokerUnavailable when it ends instead, PortsTaken when that is why,
        DeadlineExceeded when it takes too long.
        """
        try:
            with self._engine.errors(f"A container of the image {self._image} cannot be started"):
                self._launch()
        except BrokerUnavailable as error:
            if any(text in error.what for text in _PORTS_TAKEN):
                raise PortsTaken(error.what, error.remedy) from error
            raise
        try:
            self.version = wait_until_ready(
                self.endpoint,
                self._require_alive,
                _READY_TIMEOUT_S,
                f"RabbitMQ in a container of the image {self._image}",
            )
            self.ready_at = time.monotonic()
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                error.what,
                "RabbitMQ's management plugin is needed (an image named …-management). If this"
                " process runs in a container itself, 127.0.0.1 of the Docker engine is not its"
                " own: name a broker by its URL then. The container's log ends with:\n"
                f"{self.log(10)}",
            ) from error

    def stop(self) -> None:
        """Shut the node down as an administrator would; its data stays."""
        with self._engine.errors("The container cannot be stopped"):
            if self._state() == "paused":
                self._container.unpause()
            self._container.stop(timeout=_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End the node by SIGKILL, without a chance to write anything; its data stays."""
        with self._engine.errors("The container cannot be killed"):
            if self._state() == "paused":
                self._container.unpause()
            if self._state() != "running":
                return
            self._container.kill("SIGKILL")
            wait_until(
                lambda: self._state() not in ("running", "removing"), 30.0, "the container to end"
            )

    def pause(self) -> None:
        """Freeze all processes of the node: connections stay open, nothing answers."""
        with self._engine.errors("The container cannot be paused"):
            if self._state() == "running":
                wait_until(self._froze, _FREEZE_S, "the container's processes to freeze")

    def _froze(self) -> bool:
        """Pause it if it can be: runc refuses while its processes are starting others."""
        try:
            self._container.pause()
        except Exception as error:
            if "unable to freeze" not in str(error):
                raise
            return False
        return True

    def resume(self) -> None:
        """Resume a paused node."""
        with self._engine.errors("The container cannot be resumed"):
            if self._state() == "paused":
                self._container.unpause()

    def log(self, lines: int = 1000) -> str:
        """Return the last lines of the container's log."""
        if self._container is None:
            return ""
        with self._engine.errors("The container's log cannot be read"):
            text: bytes = self._container.logs(tail=lines)
        return text.decode("utf-8", "replace").strip()

    def control(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run rabbitmqctl in the container and return its standard output.

        Raise BrokerError with its own words, DeadlineExceeded.
        """
        with self._engine.errors("The container cannot be asked for its state"):
            state = self._state()
        if state != "running":
            raise BrokerError(f"RabbitMQ's container is {state}: rabbitmqctl can do nothing.")
        # A command in a container goes on when its caller gives up: one limit in there, and one
        # here for a container that is paused meanwhile. busybox's timeout takes whole seconds only.
        limit = ["timeout", "-s", "KILL", str(math.ceil(timeout_s))]
        began = time.monotonic()
        try:
            status, out, said = self._engine.execute(
                self._name, [*limit, "rabbitmqctl", *arguments], timeout_s + _EXECUTION_GRACE_S
            )
        except DeadlineExceeded as error:
            raise control_timeout(arguments, timeout_s) from error
        if status and time.monotonic() - began >= timeout_s:
            raise control_timeout(arguments, timeout_s)
        if status:
            raise control_error(arguments, status, said or out, self.endpoint.password)
        return out

    def close(self) -> None:
        """Remove the container with its data."""
        if not self.reaper.is_mine:  # a process forked from ours must not
            return
        import docker.errors  # noqa: PLC0415

        # By name and not by object: a start that was interrupted may have made it all the same.
        with self._engine.errors("The container cannot be removed"):
            try:
                self._engine.client.api.remove_container(self._name, v=True, force=True)
            except docker.errors.NotFound:
                is_certain = not self._is_being_made
            else:
                is_certain = True
        # Only now: interrupted above, the reaper does the rest, or where it may yet appear.
        if is_certain:
            self.reaper.release(**self._held)
        self._container = None
        if self._made is not None:
            self._made.get_docker_client().client.close()
            self._made = None

    def _launch(self) -> None:
        state = self._state()
        if state == "paused":
            self._container.unpause()
        elif state != "running":
            began = time.monotonic()
            if self._container is None:
                self._create()
            else:
                self._container.start()
            self.starts.append(began)

    def _create(self) -> None:
        with warnings.catch_warnings():
            # testcontainers 4.15 uses a decorator that it has deprecated itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            from testcontainers.community.rabbitmq import RabbitMqContainer  # noqa: PLC0415
        import docker.errors  # noqa: PLC0415
        import docker.types  # noqa: PLC0415
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        # All arguments, because those left out come from RABBITMQ_* of *this* machine.
        made = RabbitMqContainer(
            self._image,
            port=_AMQP,
            username=self.endpoint.username,
            password=self.endpoint.password,
            vhost=self.endpoint.virtual_host,
        ).with_name(self._name)
        # with_bind_ports takes no address, the mapping itself does (docker-py's tuple).
        ports: Any = {f"{port}/tcp": ("127.0.0.1", here) for port, here in self._ports.items()}
        made.ports = ports
        # A volume of its own, which ends with it: not each image declares one.
        made.with_kwargs(mounts=[docker.types.Mount(_DATA, None, type="volume")])
        self._made = made
        # DOCKER_HOST is by now what testcontainers found, in a Docker context for example.
        self._held = {"container": self._name, "engine": os.environ.get("DOCKER_HOST")}
        self.reaper.hold(**self._held)
        # Our reaper does Ryuk's work without its image. The setting belongs to the whole process:
        # put it back.
        ryuk_disabled = testcontainers_config.ryuk_disabled
        testcontainers_config.ryuk_disabled = True
        self._is_being_made = True
        try:
            # The plain container's start: RabbitMqContainer's own waits 120 s whatever happens.
            DockerContainer.start(made)
            self._is_being_made = False
        except docker.errors.DockerException:  # an answer, if a bad one
            self._is_being_made = False
            raise
        finally:
            testcontainers_config.ryuk_disabled = ryuk_disabled
        self._container = made.get_wrapped_container()

    def _state(self) -> str:
        if self._container is None:
            return "absent"
        self._container.reload()
        return str(self._container.status)

    def _require_alive(self) -> None:
        with self._engine.errors("The container is gone"):
            state = self._state()
        if state in ("exited", "dead", "removing"):
            code = self._container.attrs.get("State", {}).get("ExitCode")
            raise BrokerUnavailable(
                f"The container of the image {self._image} ended while starting (status {code}).",
                f"Its log ends with:\n{self.log(12)}",
            )
