"""A disk of its own for a node's data, whose power can be cut.

The disk is a file with an ext4 file system, mounted over the node's data directory. Its power is
cut by the kernel's own means (the ioctl EXT4_IOC_SHUTDOWN, without a last flush of its journal):
what was forced out by fsync, or written back by the kernel meanwhile, is there afterwards, and
nothing else. A killed node loses nothing of that kind, because the kernel lives on.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import final

from rmqbench.broker.handle import Broker
from rmqbench.broker.places import data_root, require_space
from rmqbench.broker.reaper import Reaper, unmount
from rmqbench.errors import FaultUnavailable
from rmqbench.waiting import wait_until

__all__ = ["Disk", "own_disk"]

_TOOLS = ("mkfs.ext4", "mount", "umount", "losetup", "cp")
_MB = 2**20
_NEEDED_MB = 1000
_LARGEST_MB = 16_000
_COMMAND_S = 60.0
# include/uapi/linux/ext4.h: _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH.
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)


@contextlib.contextmanager
def own_disk(broker: Broker) -> Iterator[Disk]:
    """Move a node of our own to a disk of its own for as long as the context lasts.

    It is shut down and started again before, and after it. Its data moves with it; where it could
    not be started on what a cut had left, it goes on with what it had before.

    Raise FaultUnavailable where this machine has no such disk, BrokerUnavailable or
    DeadlineExceeded when the node does not start again.
    """
    data, reaper = broker.data_directory, broker.reaper
    _require_means(data)
    home = data_root() / f"rmqbench-disk-{secrets.token_hex(8)}"
    require_space(home.parent, _NEEDED_MB, "a disk whose power can be cut")
    reaper.hold(directory=str(home))
    try:
        home.mkdir(mode=0o700)
        disk = Disk(broker, data, home, reaper)
        try:
            disk.insert()
            yield disk
        finally:
            disk.remove()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        reaper.release(directory=str(home))


@final
class Disk:
    """A file system of its own under a node's data; made by :func:`own_disk`."""

    def __init__(self, broker: Broker, data: Path, home: Path, reaper: Reaper) -> None:
        self._broker = broker
        self._data = data
        self._image = home / "disk.img"
        self._aside = home / "aside"
        self._reaper = reaper

    def insert(self) -> None:
        """Make it, move the data of the node onto it, and start the node there."""
        self._aside.mkdir()
        free_mb = shutil.disk_usage(self._aside).free // _MB
        with self._image.open("wb") as image:
            image.truncate(min(_LARGEST_MB, free_mb * 3 // 4) * _MB)  # sparse
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", str(self._image))
        self._broker.stop()
        with self._mounted_aside():
            (self._aside / "lost+found").rmdir()  # it would come back with the data
            _run("cp", "-a", "--", f"{self._data}/.", str(self._aside))
        self._reaper.hold(mount=str(self._data))
        self._mount(self._data)
        began = time.time()
        self._broker.start()
        if not any(each.stat().st_mtime >= began for each in _files(self._data)):
            raise FaultUnavailable(
                f"The node does not write to the disk that was mounted at {self._data}: its "
                "container sees other file systems than this process.",
                "Use a local node, or run where the engine runs.",
            )

    def cut_power(self) -> None:
        """Cut the power of the node and of the disk; the node can be started again then.

        The node first: it would see the disk fail, and say so to its clients before it dies. What
        the kernel holds for it is not written back by its end.
        """
        import fcntl  # noqa: PLC0415  not on Windows

        self._broker.kill()
        directory = os.open(self._data, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, _WITHOUT_FLUSH)
        except OSError as error:
            raise FaultUnavailable(f"The power of {self._data} cannot be cut: {error}.") from error
        finally:
            os.close(directory)
        self._unmount(self._data)
        self._mount(self._data)

    def remove(self) -> None:
        """Move the data back, and start the node there."""
        if os.path.ismount(self._data):
            # A node that starts on what a cut has left may hang, and never be ready.
            is_whole = self._broker.is_running() and self._broker.ready_at > self._broker.starts[-1]
            if is_whole:
                self._broker.stop()
            else:
                self._broker.kill()
            self._unmount(self._data)
            if is_whole:
                with self._mounted_aside():
                    _empty(self._data)
                    _run("cp", "-a", "--", f"{self._aside}/.", str(self._data))
        self._reaper.release(mount=str(self._data))
        self._broker.start()

    @contextlib.contextmanager
    def _mounted_aside(self) -> Iterator[None]:
        self._reaper.hold(mount=str(self._aside))
        try:
            self._mount(self._aside)
            yield
        finally:
            if os.path.ismount(self._aside):
                self._unmount(self._aside)
            self._reaper.release(mount=str(self._aside))

    def _mount(self, place: Path) -> None:
        _run("mount", "-o", "loop", "--", str(self._image), str(place))

    def _unmount(self, place: Path) -> None:
        """Unmount it, and wait until nothing holds the file system: a mount would find it again."""
        unmount(str(place))
        wait_until(
            lambda: not _run("losetup", "--associated", str(self._image)).strip(),
            _COMMAND_S,
            f"the disk of {place} to be released",
        )


def _require_means(data: Path) -> None:
    """Raise FaultUnavailable where no disk of its own can be had."""
    reason = ""
    if sys.platform != "linux":
        reason = "it needs Linux"
    elif os.geteuid() != 0:
        reason = "it needs root, to mount a file system"
    elif missing := [each for each in _TOOLS if shutil.which(each) is None]:
        reason = f"{' and '.join(missing)} cannot be found"
    elif not data.is_dir():
        reason = f"the data of the node, {data}, is not on this machine"
    if reason:
        raise FaultUnavailable(
            f"No power can be cut here: {reason}.",
            "It is done to a file system in a file, mounted under the node's data.",
        )


def _run(*command: str) -> str:
    """Run a command and return what it prints; raise FaultUnavailable with its own words."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_COMMAND_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join((getattr(error, "stderr", None) or str(error)).split())
        raise FaultUnavailable(
            f"No disk whose power can be cut: {command[0]} failed: {said}"
        ) from error
    return done.stdout


def _files(place: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(place):
        yield from (Path(directory) / name for name in names)


def _empty(place: Path) -> None:
    for each in place.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
