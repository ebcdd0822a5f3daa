"""A disk of its own for a node's data, whose power can be cut.

As root it is a file with an ext4 file system, mounted over the node's data directory. Its power is
cut by the kernel's own means (the ioctl EXT4_IOC_SHUTDOWN, without a last flush of its journal):
what was forced out by fsync, or written back by the kernel meanwhile, is there afterwards, and
nothing else. A killed node loses nothing of that kind, because the kernel lives on.

Else it is a file system in user space that does the like (:mod:`rmqbench.broker.undoing`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

from rmqbench.broker.handle import Broker
from rmqbench.broker.media import MEDIA, Medium
from rmqbench.broker.places import data_root, require_space
from rmqbench.broker.reaper import Reaper, is_mounted
from rmqbench.errors import FaultUnavailable

__all__ = ["Disk", "own_disk"]

_NEEDED_MB = 1000
_COPY_S = 600.0


@contextlib.contextmanager
def own_disk(broker: Broker, media: Sequence[type[Medium]] = MEDIA) -> Iterator[Disk]:
    """Move a node of our own to a disk of its own for as long as the context lasts.

    It is shut down and started again before, and after it. Its data moves with it; where it could
    not be started on what a cut had left, it goes on with what it had before. The disk is made of
    the first of the ``media`` that can be had here.

    Raise FaultUnavailable where this machine has no such disk, BrokerUnavailable or
    DeadlineExceeded when the node does not start again.
    """
    data, reaper = broker.data_directory, broker.reaper
    if sys.platform != "linux":
        raise _unavailable("it needs Linux")
    if not (data.is_dir() and os.access(data, os.W_OK)):
        raise _unavailable(f"the data of the node, {data}, is not on this machine, or not ours")
    if all(reasons := [each.missing() for each in media]):
        raise _unavailable("; ".join(reasons))
    home = data_root() / f"rmqbench-disk-{secrets.token_hex(8)}"
    require_space(home.parent, _NEEDED_MB, "a disk whose power can be cut")
    reaper.hold(directory=str(home))
    try:
        home.mkdir(mode=0o700)
        disk = Disk(broker, data, home, reaper)
        disk.make(media)
        try:
            disk.insert()
            yield disk
        finally:
            disk.remove()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        reaper.release(directory=str(home))


def _unavailable(reason: str) -> FaultUnavailable:
    return FaultUnavailable(
        f"No power can be cut here: {reason}.",
        "It is done to a file system of its own, mounted under the node's data.",
    )


@final
class Disk:
    """A file system of its own under a node's data; made by :func:`own_disk`."""

    def __init__(self, broker: Broker, data: Path, home: Path, reaper: Reaper) -> None:
        self._broker = broker
        self._data = data
        self._home = home
        self._aside = home / "aside"
        self._reaper = reaper
        self._medium: Medium

    def make(self, media: Sequence[type[Medium]]) -> None:
        """Make it of the first of the media that can be had; raise FaultUnavailable for none."""
        self._aside.mkdir()
        reasons = []
        for number, kind in enumerate(media):
            if reason := kind.missing():
                reasons.append(reason)
                continue
            place = self._home / str(number)
            place.mkdir()
            try:
                self._medium = kind(place)
                with self._mounted_aside():
                    return
            except FaultUnavailable as error:
                reasons.append(error.what.rstrip("."))
        raise _unavailable("; ".join(reasons))

    def insert(self) -> None:
        """Move the data of the node onto it, and start the node there."""
        self._broker.stop()
        with self._mounted_aside():
            _copy(self._data, self._aside)
        self._reaper.hold(mount=str(self._data))
        self._medium.mount(self._data)
        began = time.time()
        self._broker.start()
        if not any(each.stat().st_mtime >= began for each in _files(self._data)):
            raise FaultUnavailable(
                f"The node does not write to the disk that was mounted at {self._data}: its "
                "container sees other file systems than this process.",
                "Use a local node, or run where the engine runs.",
            )
        self._medium.sync(self._data)

    def cut_power(self) -> None:
        """Cut the power of the node and of the disk; the node can be started again then.

        The node first: it would see the disk fail, and say so to its clients before it dies. What
        the kernel holds for it is not written back by its end.
        """
        self._broker.kill()
        self._medium.forget(self._data)
        self._medium.unmount(self._data)
        self._medium.mount(self._data)

    def remove(self) -> None:
        """Move the data back, and start the node there."""
        if is_mounted(str(self._data)):
            # A node that starts on what a cut has left may hang, and never be ready.
            is_whole = self._broker.is_running() and self._broker.ready_at > self._broker.starts[-1]
            if is_whole:
                self._broker.stop()
            else:
                self._broker.kill()
            self._medium.unmount(self._data)
            if is_whole:
                with self._mounted_aside():
                    _empty(self._data)
                    _copy(self._aside, self._data)
        self._reaper.release(mount=str(self._data))
        self._broker.start()

    @contextlib.contextmanager
    def _mounted_aside(self) -> Iterator[None]:
        self._reaper.hold(mount=str(self._aside))
        try:
            self._medium.mount(self._aside)
            yield
        finally:
            if is_mounted(str(self._aside)):
                self._medium.unmount(self._aside)
            self._reaper.release(mount=str(self._aside))


def _copy(source: Path, target: Path) -> None:
    """Copy all that is in a directory, with its owners and times."""
    command = ["cp", "-a", "--", f"{source}/.", str(target)]
    try:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COPY_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        raise FaultUnavailable(
            f"The data of the node cannot be copied: {' '.join(said.split())}"
        ) from error


def _files(place: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(place):
        yield from (Path(directory) / name for name in names)


def _empty(place: Path) -> None:
    for each in place.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
