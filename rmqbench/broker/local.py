"""A private RabbitMQ node on this machine, without Docker and without root."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

import psutil

from rmqbench.broker.handle import control_error, control_timeout
from rmqbench.broker.installation import Installation
from rmqbench.broker.places import data_root, free_ports, require_space
from rmqbench.broker.reaper import MARK, Reaper, end_processes, marked_processes, wait_for_ends
from rmqbench.broker.starting import PortsTaken, running_node, wait_until_ready
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from rmqbench.open_files import open_files_of_a_node
from rmqbench.waiting import wait_until

__all__ = ["LocalNode", "open_local_node"]

_READY_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 60.0
_SPACE_MB = 150  # the node blocks publishers when less than its limit, 50 MB, is left
_FOREIGN = ("RABBITMQ_", "ERL_", "ERLANG_", "NOTIFY_SOCKET", "LISTEN_", "ROOTDIR", "BINDIR")
# Each Erlang system listens on loopback only, and starts no port mapper that would outlive it.
_ERLANG_ARGUMENTS = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
_PORTS_TAKEN = ("eaddrinuse", "address already in use", "dist_port_already_used")


@contextlib.contextmanager
def open_local_node(installation: Installation, say: Callable[[str], None]) -> Iterator[LocalNode]:
    """Run a node for as long as the context lasts; nothing of it is left afterwards.

    Raise BrokerUnavailable, DeadlineExceeded.
    """
    say("Starting a local RabbitMQ node")
    with running_node(lambda reaper: LocalNode(installation, reaper)) as node:
        yield node


@final
class LocalNode:
    """One node in a directory of its own, with its own epmd, cookie, ports and user.

    It listens on 127.0.0.1 only. Every process of it carries a mark in its environment, by which
    this class and the reaper find it.
    """

    def __init__(self, installation: Installation, reaper: Reaper) -> None:
        self._installation = installation
        self.reaper = reaper
        self._mark = secrets.token_hex(8)
        amqp, management, distribution, epmd = free_ports(4)
        self._distribution_port, self._epmd_port = distribution, epmd
        self._management_port = management
        self._directory = data_root() / f"rmqbench-node-{self._mark}"
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._suspended: list[psutil.Process] = []
        self._commands: set[subprocess.Popen[str]] = set()
        self.endpoint = Endpoint(
            host="127.0.0.1",
            port=amqp,
            username="rmqbench",
            password=secrets.token_hex(16),
            management_url=f"http://127.0.0.1:{management}",
        )
        self.version = ""
        self.starts: list[float] = []
        self.ready_at = 0.0

    @property
    def directory(self) -> Path:
        """Where the node keeps its data, configuration and log."""
        return self._directory

    @property
    def data_directory(self) -> Path:
        """Where the node keeps its data."""
        return self._directory / "data"

    def is_running(self) -> bool:
        """Whether the node's process is there, paused or not."""
        return self._node is not None and self._node.poll() is None

    def start(self) -> None:
        """Start the node on the data it has, and wait until it is ready.

        Raise BrokerUnavailable when it ends instead, PortsTaken when that is why,
        DeadlineExceeded when it takes too long.
        """
        if self.is_running():
            return
        try:
            if not self._directory.exists():
                self._prepare()
            self._start_epmd()
            self._launch()
        except OSError as error:
            raise self._start_error(error) from error
        try:
            self.version = wait_until_ready(
                self.endpoint, self._require_alive, _READY_TIMEOUT_S, "a local RabbitMQ node"
            )
            self.ready_at = time.monotonic()
        except DeadlineExceeded as error:
            raise DeadlineExceeded(error.what, f"Its log ends with:\n{self.log(10)}") from error

    def stop(self) -> None:
        """Shut the node down as an administrator would; its data stays."""
        if not self.is_running() or self._node is None:
            return
        self.resume()
        self._node.send_signal(signal.SIGTERM)  # RabbitMQ's own handler stops it cleanly
        wait_until(
            lambda: not self.is_running(),
            _STOP_TIMEOUT_S,
            "a local RabbitMQ node to shut down",
        )
        self._end_leftovers()

    def kill(self) -> None:
        """End the node by SIGKILL, without a chance to write anything; its data stays."""
        if self._node is None:
            return
        self._node.kill()
        self._node.wait(10.0)
        self.resume()  # its helpers, which end by themselves once they can notice
        self._end_leftovers()

    def pause(self) -> None:
        """Freeze all processes of the node (SIGSTOP): connections stay open, nothing answers."""
        if self._node is None or not self.is_running() or self._suspended:
            return
        node = psutil.Process(self._node.pid)
        for process in [node, *node.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                self._suspended.append(process)

    def resume(self) -> None:
        """Resume a paused node (SIGCONT)."""
        while self._suspended:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._suspended.pop().resume()

    def log(self, lines: int = 1000) -> str:
        """Return the last lines of the node's log."""
        try:
            text = (self._directory / "node.log").read_text("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def control(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run rabbitmqctl on the node and return its standard output.

        Raise BrokerError with its own words, DeadlineExceeded.
        """
        if not self.is_running() or self._suspended:
            state = "paused" if self.is_running() else "not running"
            raise BrokerError(f"The local RabbitMQ node is {state}: rabbitmqctl can do nothing.")
        try:
            process = subprocess.Popen(
                [str(self._installation.sbin / "rabbitmqctl"), *arguments],
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise BrokerError(f"rabbitmqctl cannot be started: {error}.") from error
        self._commands.add(process)
        try:
            with process:
                try:
                    out, said = process.communicate(timeout=timeout_s)
                except BaseException:
                    _end_session(process)
                    raise
            if process not in self._commands:
                raise BrokerError("The local RabbitMQ node was ended while rabbitmqctl ran.")
        except subprocess.TimeoutExpired:
            raise control_timeout(arguments, timeout_s) from None
        finally:
            self._commands.discard(process)
        if process.returncode:
            password = self.endpoint.password
            raise control_error(arguments, process.returncode, said or out, password)
        return out

    def close(self) -> None:
        """End everything of the node and remove its directory."""
        if not self.reaper.is_mine:  # a process forked from ours must not
            return
        started = [process for process in (self._node, self._epmd) if process is not None]
        for process in started:
            with contextlib.suppress(OSError):
                process.kill()
        self._end_commands()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
        end_processes([self._mark])
        self._node = self._epmd = None
        _remove(self._directory)
        # Only now: interrupted above, the reaper does the rest.
        self.reaper.release(mark=self._mark)
        self.reaper.release(directory=str(self._directory))

    def _require_alive(self) -> None:
        if self._node is None or self._node.poll() is None:
            return
        said = self.log(12)
        remedy = f"Its log ends with:\n{said}"
        if "enospc" in said.lower() or "no space left" in said.lower():
            remedy = "Its disk is full: let TMPDIR name a directory on another one.\n" + remedy
        ports_taken = any(text in self.log().lower() for text in _PORTS_TAKEN)
        raise (PortsTaken if ports_taken else BrokerUnavailable)(
            f"The local RabbitMQ node of {self._installation.what} ended while starting"
            f" (status {self._node.returncode}).",
            remedy,
        )

    def _prepare(self) -> None:
        require_space(self._directory.parent, _SPACE_MB, "a RabbitMQ node's data")
        self.reaper.hold(directory=str(self._directory))
        self.reaper.hold(mark=self._mark)
        self._directory.mkdir(mode=0o700)
        for name in ("data", "log", "config"):
            (self._directory / name).mkdir()
        endpoint = self.endpoint
        self._write(
            "rabbitmq.conf",
            f"listeners.tcp.1 = 127.0.0.1:{endpoint.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self._management_port}\n"
            f"default_user = {endpoint.username}\n"
            f"default_pass = {endpoint.password}\n"
            "disk_free_limit.absolute = 50MB\n",
        )
        self._write("enabled_plugins", "[rabbitmq_management].\n")
        self._write("advanced.config", "[].\n")
        self._write("environment.conf", "")
        self._write(".erlang.cookie", secrets.token_hex(16), mode=0o400)

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self._directory / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    def _environment(self) -> dict[str, str]:
        """Return the node's environment: ours, less whatever would steer another RabbitMQ."""
        here = self._directory
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)
        }
        search = [str(self._installation.erlang_bin), str(self._installation.sbin)]
        environment["PATH"] = os.pathsep.join([*search, environment.get("PATH", os.defpath)])
        if self._installation.libraries:
            libraries = [str(path) for path in self._installation.libraries]
            if environment.get("LD_LIBRARY_PATH"):
                libraries.append(environment["LD_LIBRARY_PATH"])
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
        return environment | {
            MARK: self._mark,
            "HOME": str(here),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",  # a node killed on purpose needs no crash dump
            # The start script then becomes the node (exec) instead of staying as its parent.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_HOME": str(self._installation.sbin.parent),
            "RABBITMQ_NODENAME": f"rabbit-{self._mark}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.endpoint.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.data_directory),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(here / "config"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "environment.conf"),
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
            # rabbitmqctl is an Erlang node too: it listens at any port that is free.
            "RABBITMQ_CTL_ERL_ARGS": _ERLANG_ARGUMENTS,
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
        }

    def _start_epmd(self) -> None:
        """Start Erlang's port mapper: a node would start one that outlives it, on all addresses."""
        if self._epmd is not None and self._epmd.poll() is None:
            return
        epmd = subprocess.Popen(
            [
                str(self._installation.erlang_bin / "epmd"),
                *("-address", "127.0.0.1", "-port", str(self._epmd_port)),
            ],
            env=self._environment(),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._epmd = epmd

        def listens() -> bool:
            if epmd.poll() is not None:  # what ends it, where it can run at all, is its port
                raise PortsTaken(
                    f"Erlang's port mapper epmd ended at once (status {epmd.returncode}).",
                    f"Try it: {self._installation.erlang_bin / 'epmd'} -port {self._epmd_port}",
                )
            return _answers_as_epmd(self._epmd_port)

        wait_until(listens, 10.0, "Erlang's port mapper epmd to listen")

    def _launch(self) -> None:
        began = time.monotonic()
        with (self._directory / "node.log").open("ab") as log:
            self._node = subprocess.Popen(
                [
                    *("/bin/sh", "-c", 'ulimit -n "$0" && exec "$1"'),
                    *(
                        str(open_files_of_a_node()),
                        str(self._installation.sbin / "rabbitmq-server"),
                    ),
                ],
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, not for the node
            )
        self.starts.append(began)

    def _end_commands(self) -> None:
        while self._commands:
            _end_session(self._commands.pop())

    def _end_leftovers(self) -> None:
        """Wait for the ended node's helpers (they notice by themselves), and end the stubborn."""
        self._end_commands()
        epmd = self._epmd.pid if self._epmd else None
        helpers = [one for one in marked_processes({self._mark}) if one.pid != epmd]
        alive = wait_for_ends(helpers, 2.0)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait_for_ends(alive, 5.0)

    def _start_error(self, error: OSError) -> BrokerUnavailable:
        if error.errno == errno.ENOSPC:
            return BrokerUnavailable(
                f"The disk of {self._directory} is full: no RabbitMQ node can start there.",
                "Free some space, or let TMPDIR name a directory on another disk.",
            )
        return BrokerUnavailable(f"A local RabbitMQ node cannot be started: {error}.")


def _answers_as_epmd(port: int) -> bool:
    """Whether it is epmd that listens: asked for its names, it sends its own port first."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=1.0) as asking,
    ):
        asking.sendall(b"\x00\x01n")
        return asking.recv(4) == port.to_bytes(4, "big")
    return False


def _end_session(leader: subprocess.Popen[str]) -> None:
    """End a command with all of its session: a script may stay as the parent of its program."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():  # something was still writing
        shutil.rmtree(directory, ignore_errors=True)
