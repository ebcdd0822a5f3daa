"""A RabbitMQ node of our own in a Docker container, through testcontainers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from rmqbench.broker.handle import control_error, control_timeout
from rmqbench.broker.places import free_ports
from rmqbench.broker.reaper import Guard
from rmqbench.broker.waiting import wait_until, wait_until_ready
from rmqbench.endpoint import Endpoint, is_loopback
from rmqbench.errors import BrokerError, BrokerUnavailable, DeadlineExceeded

__all__ = ["ContainerNode", "Engine", "open_container_node"]

_PING_TIMEOUT_S = 5
_ENGINE_TIMEOUT_S = 60
_READY_TIMEOUT_S = 90.0
_FREEZE_S = 10.0
_STOP_TIMEOUT_S = 60
_EXECUTION_GRACE_S = 5.0  # for the engine, before and after what it executes
_PULL_SILENCE_S = 30.0
_PULL_TIMEOUT_S = 600.0
_AMQP, _MANAGEMENT = 5672, 15672
_SOCKETS = ("/var/run/docker.sock", r"\\.\pipe\docker_engine")
_OURS = frozenset({"unix", "npipe", "http+docker"})
_PORTS_TAKEN = ("port is already allocated", "address already in use")


@final
class Engine:
    """The Docker engine of this machine, reached with testcontainers' settings and contexts.

    Raises BrokerUnavailable where there is none; without Docker this costs next to nothing,
    because its client is not even imported.
    """

    def __init__(self) -> None:
        if not _may_be_there():
            raise BrokerUnavailable(
                "No Docker engine: DOCKER_HOST is not set, and there is no engine's socket."
            )
        # Imported here, because it takes a third of a second and is of no use to anyone else.
        import docker.errors  # noqa: PLC0415
        import urllib3.exceptions  # noqa: PLC0415
        from testcontainers.core.docker_client import (  # noqa: PLC0415
            DockerClient,
            get_docker_host,
        )

        address = get_docker_host() or ""
        if not _is_this_machine(address):
            raise BrokerUnavailable(
                f"The Docker engine at {address} is on another machine, where a broker could not"
                " listen on 127.0.0.1 alone.",
                "Start RabbitMQ there yourself and name it by its URL.",
            )
        _require_answer(address)
        self._errors: tuple[type[Exception], ...] = (
            docker.errors.DockerException,
            urllib3.exceptions.HTTPError,
            OSError,  # of requests, too
        )
        try:
            # A short limit to see whether it is there, a longer one for work.
            self.client: Any = DockerClient(timeout=_PING_TIMEOUT_S).client
        except self._errors as error:
            raise _no_engine(error) from error
        try:
            self.client.ping()
        except self._errors as error:
            self.close()
            raise _no_engine(error) from error
        self.client.api.timeout = _ENGINE_TIMEOUT_S

    def close(self) -> None:
        """Close the connections with the engine."""
        self.client.close()

    def require_image(self, image: str, say: Callable[[str], None]) -> None:
        """Have the image there, by pulling it if it must be. Raises BrokerUnavailable."""
        import docker.errors  # noqa: PLC0415
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415

        image = testcontainers_config.hub_image_name_prefix + image
        with self.errors(f"The image {image} cannot be had"):
            try:
                self.client.images.get(image)
                return
            except docker.errors.ImageNotFound:
                pass
            try:
                self._pull(image, say)
                self.client.images.get(image)
            except self._errors as error:
                raise BrokerUnavailable(
                    f"The image {image} is neither there nor to be pulled ({_reason(error)}).",
                    "Check its name and the network, or name an image that is there"
                    f" ({_present(self.client)}).",
                ) from error

    def _pull(self, image: str, say: Callable[[str], None]) -> None:
        from docker.utils import parse_repository_tag  # noqa: PLC0415

        say(f"rmqbench pulls the image {image}")
        repository, tag = parse_repository_tag(image)
        events: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()

        def pull() -> None:
            try:
                for event in self.client.api.pull(
                    repository, tag or "latest", stream=True, decode=True
                ):
                    events.put(event)
                events.put(None)
            except Exception as error:  # handed over, and raised over there
                events.put(error)

        # In a thread, because the Docker client pulls without any limit in time, and the engine
        # says nothing while it waits for a registry.
        threading.Thread(target=pull, daemon=True, name="rmqbench pull").start()
        remedy = f"Check its name and the network, or pull it beforehand: docker pull {image}"
        end = time.monotonic() + _PULL_TIMEOUT_S
        while time.monotonic() < end:
            try:
                event = events.get(timeout=_PULL_SILENCE_S)
            except queue.Empty:
                raise BrokerUnavailable(
                    f"The image {image} is not there, and pulling it made no progress for"
                    f" {_PULL_SILENCE_S:g} s.",
                    remedy,
                ) from None
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            if "error" in event:
                raise BrokerUnavailable(
                    f"The image {image} is neither there nor to be pulled ({event['error']}).",
                    remedy,
                )
        raise BrokerUnavailable(f"Pulling {image} took more than {_PULL_TIMEOUT_S:g} s.", remedy)

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn the Docker client's errors into BrokerUnavailable."""
        try:
            yield
        except self._errors as error:
            raise BrokerUnavailable(f"{what}: {_reason(error)}.") from error


@contextlib.contextmanager
def open_container_node(image: str, say: Callable[[str], None]) -> Iterator[ContainerNode]:
    """Run a container that lives as long as the context, and nothing of it longer.

    The image is pulled if it is not there. Raises BrokerUnavailable, DeadlineExceeded.
    """
    with contextlib.closing(Engine()) as engine:
        engine.require_image(image, say)
        with _running(engine, image) as node:
            yield node


@contextlib.contextmanager
def _running(engine: Engine, image: str) -> Iterator[ContainerNode]:
    guard = Guard()
    try:
        for attempt in range(3):
            node = ContainerNode(engine, image, guard)
            try:
                node.start()
                break
            except BaseException as error:
                node.close()
                taken = any(text in str(error) for text in _PORTS_TAKEN)
                if not (taken and isinstance(error, BrokerUnavailable)) or attempt == 2:
                    raise
        try:
            yield node
        finally:
            node.close()
    finally:
        guard.close()


@final
class ContainerNode:
    """One container with fixed ports on 127.0.0.1: they, and its data, outlive a kill."""

    def __init__(self, engine: Engine, image: str, guard: Guard) -> None:
        self._engine = engine
        self._image = image
        self._guard = guard
        self._name = f"rmqbench-{secrets.token_hex(8)}"
        self._made: Any = None  # testcontainers' object
        self._container: Any = None  # the Docker client's
        self._held: dict[str, object] = {}
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
        self.started_at = 0.0

    @property
    def name(self) -> str:
        """The container's name."""
        return self._name

    def is_running(self) -> bool:
        """Tell whether the node's process is there, paused or not."""
        with self._engine.errors("The container cannot be asked for its state"):
            return self._state() in ("running", "paused")

    def start(self) -> None:
        """Start the node on the data it has, and wait until it is ready.

        Raises BrokerUnavailable when it ends instead, DeadlineExceeded when it takes too long.
        """
        with self._engine.errors(f"A container of {self._image} cannot be started"):
            state = self._state()
            if state == "paused":
                self._container.unpause()
            elif state != "running":
                began = time.monotonic()
                if self._container is None:
                    self._create()
                else:
                    self._container.start()
                self.started_at = began
        try:
            self.version = wait_until_ready(
                self.endpoint,
                self._require_alive,
                _READY_TIMEOUT_S,
                f"RabbitMQ in a container of {self._image}",
            )
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                error.what,
                "It needs the management plugin (an image named …-management); and if this process"
                " runs in a container itself, the engine's 127.0.0.1 is not ours: name a broker by"
                f" its URL then. The container's log ends with:\n{self.log(10)}",
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
        """Try to pause it: a group of processes that are starting others may refuse (runc)."""
        try:
            self._container.pause()
        except Exception as error:
            if "unable to freeze" not in str(error):
                raise
            return False
        return True

    def resume(self) -> None:
        """Let the node go on after a pause."""
        with self._engine.errors("The container cannot be resumed"):
            if self._state() == "paused":
                self._container.unpause()

    def log(self, lines: int = 1000) -> str:
        """Give the last lines of the container's log."""
        if self._container is None:
            return ""
        with self._engine.errors("The container's log cannot be read"):
            text: bytes = self._container.logs(tail=lines)
        return text.decode("utf-8", "replace").strip()

    def control(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run rabbitmqctl in the container and give its standard output.

        Raises BrokerError with its own words, DeadlineExceeded.
        """
        with self._engine.errors("The container cannot be asked for its state"):
            state = self._state()
        if state != "running":
            raise BrokerError(f"RabbitMQ's container is {state}: rabbitmqctl can do nothing.")
        # What runs in a container is not ended by letting go of it: a limit in there, and one here
        # for a container that is paused meanwhile. timeout may take whole seconds only (busybox).
        limit = ["timeout", "-s", "KILL", str(math.ceil(timeout_s))]
        began = time.monotonic()
        done = self._execute([*limit, "rabbitmqctl", *arguments], timeout_s + _EXECUTION_GRACE_S)
        if done is None or (done[0] and time.monotonic() - began >= timeout_s):
            raise control_timeout(arguments, timeout_s)
        status, out, said = done
        if status:
            raise control_error(arguments, status, said or out, self.endpoint.password)
        return out

    def close(self) -> None:
        """Remove the container with its data."""
        if not self._guard.is_mine:  # a process forked from ours: none of its business
            return
        import docker.errors  # noqa: PLC0415

        # By name and not by object: a start that was interrupted may have made it all the same.
        with (
            self._engine.errors("The container cannot be removed"),
            contextlib.suppress(docker.errors.NotFound),
        ):
            self._engine.client.api.remove_container(self._name, v=True, force=True)
        # Only now: interrupted above, the guard does the rest.
        self._guard.release(**self._held)
        self._container = None
        if self._made is not None:
            self._made.get_docker_client().client.close()
            self._made = None

    def _create(self) -> None:
        with warnings.catch_warnings():
            # testcontainers 4.15 uses a decorator that it has deprecated itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            from testcontainers.community.rabbitmq import RabbitMqContainer  # noqa: PLC0415
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
        # with_bind_ports has no place for an address, the mapping itself has (docker-py's tuple).
        ports: Any = {f"{port}/tcp": ("127.0.0.1", here) for port, here in self._ports.items()}
        made.ports = ports
        self._made = made
        # DOCKER_HOST is by now what testcontainers found, in a Docker context for example.
        self._held = {"container": self._name, "engine": os.environ.get("DOCKER_HOST")}
        self._guard.hold(**self._held)
        # Our guard does Ryuk's work without its image. The setting is everybody's in this process:
        # put it back.
        ryuk_disabled = testcontainers_config.ryuk_disabled
        testcontainers_config.ryuk_disabled = True
        try:
            # The plain container's start: RabbitMqContainer's own waits 120 s whatever happens.
            DockerContainer.start(made)
        finally:
            testcontainers_config.ryuk_disabled = ryuk_disabled
        self._container = made.get_wrapped_container()

    def _execute(self, command: list[str], timeout_s: float) -> tuple[int, str, str] | None:
        """Run a command as RabbitMQ's user; give status, output and error output, None if late."""
        api = self._engine.client.api
        results: queue.Queue[Any] = queue.Queue()

        def execute() -> None:
            try:
                # Not as root: Debian's rabbitmqctl would pass its arguments through a shell then.
                made = api.exec_create(
                    self._name, command, user="rabbitmq", environment={"LC_ALL": "C.UTF-8"}
                )["Id"]
                texts = api.exec_start(made, demux=True)
                # The output may end before the engine has noticed the end.
                wait_until(
                    lambda: not api.exec_inspect(made)["Running"],
                    _EXECUTION_GRACE_S,
                    f"{command[0]} in the container to end",
                )
                results.put((api.exec_inspect(made)["ExitCode"], *texts))
            except Exception as error:  # handed over, and raised over there
                results.put(error)

        # In a thread, because the Docker client waits for the output without any limit in time.
        threading.Thread(target=execute, daemon=True, name="rmqbench execute").start()
        try:
            result = results.get(timeout=timeout_s)
        except queue.Empty:
            return None
        with self._engine.errors(f"{command[0]} cannot be run in the container"):
            if isinstance(result, Exception):
                raise result
        status, *texts = result
        out, said = ((text or b"").decode("utf-8", "replace") for text in texts)
        return status, out, said

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
                f"The container of {self._image} ended while starting (status {code}).",
                f"Its log ends with:\n{self.log(12)}",
            )


def _no_engine(error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"No Docker engine answers ({_reason(error)}).",
        "Start it, or check that this user may use it (the group docker).",
    )


def _may_be_there() -> bool:
    """Say whether an engine could be reached at all, by looking at files only."""
    if os.environ.get("DOCKER_HOST"):
        return True
    if any(os.path.exists(path) for path in _SOCKETS):
        return True
    home = Path.home()
    configured = Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(configured.read_text("utf-8")).get("currentContext"):
            return True
    with contextlib.suppress(OSError):
        return "tc.host" in (home / ".testcontainers.properties").read_text("utf-8")
    return False


def _require_answer(address: str) -> None:
    """Knock at the engine's socket: its client leaks one where nobody answers."""
    path = urlsplit(address).path
    if not address.startswith("unix:"):
        return
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(_PING_TIMEOUT_S)
        try:
            plain.connect(path)
        except OSError as error:
            raise BrokerUnavailable(
                f"No Docker engine answers at {path} ({error.strerror or error}).",
                "Start it, or check that this user may use it (the group docker).",
            ) from None


def _is_this_machine(address: str) -> bool:
    parts = urlsplit(address)
    return not address or parts.scheme in _OURS or is_loopback(parts.hostname or "")


def _present(client: Any) -> str:
    tags = sorted(
        tag for image in client.images.list() for tag in image.tags if "rabbit" in tag.lower()
    )
    return ", ".join(tags) or "none of RabbitMQ is"


def _reason(error: BaseException) -> str:
    """Give the engine's own words, without the client's wrapping."""
    said = getattr(error, "explanation", None) or str(error)
    return " ".join(str(said).split()).rstrip(".")
