"""What a disk whose power can be cut is made of: file systems that forget what they had not got."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import struct
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final, final

from rmqbench.broker.reaper import is_mounted, unmount
from rmqbench.errors import DeadlineExceeded, FaultUnavailable
from rmqbench.waiting import wait_until

__all__ = ["MEDIA", "FileSystemInAFile", "FileSystemInUserSpace", "Medium"]

_MB = 2**20
_LARGEST_MB = 16_000
_COMMAND_S = 60.0
_RELEASED_S = 5.0
# include/uapi/linux/ext4.h: _IOR('X', 125, __u32) and EXT4_GOING_FLAGS_NOLOGFLUSH.
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)


class Medium(ABC):
    """A file system of its own, which can be mounted anywhere, and forgets what it has not got yet.

    It is made with a directory for what it is kept in; raise FaultUnavailable where that fails.
    """

    @abstractmethod
    def __init__(self, home: Path) -> None:
        """Make it, empty."""

    @staticmethod
    @abstractmethod
    def missing() -> str:
        """Return why it cannot be had here, in a few words; empty where nothing is known of it."""

    @abstractmethod
    def mount(self, place: Path) -> None:
        """Mount it; raise FaultUnavailable where that cannot be."""

    @abstractmethod
    def unmount(self, place: Path) -> None:
        """Unmount it, and wait until nothing holds it."""

    @abstractmethod
    def sync(self, place: Path) -> None:
        """Force out what a node that has run for a while has on its disk, forced out or not."""

    @abstractmethod
    def forget(self, place: Path) -> None:
        """Take away what was not forced out; it is to be unmounted then."""


@final
class FileSystemInAFile(Medium):
    """An ext4 file system in a file, on a loop device."""

    def __init__(self, home: Path) -> None:
        """Make it; raise FaultUnavailable where that cannot be."""
        self._home = home
        self._image = home / "disk.img"
        free_mb = shutil.disk_usage(home).free // _MB
        with self._image.open("wb") as image:
            image.truncate(min(_LARGEST_MB, free_mb * 3 // 4) * _MB)  # sparse
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", str(self._image))

    @staticmethod
    def missing() -> str:
        """Return why it cannot be had here, in a few words; empty where nothing is known of it."""
        if os.geteuid() != 0:
            return "an ext4 file system in a file needs root, to be mounted"
        return _missing("mkfs.ext4", "mount", "umount", "losetup")

    def mount(self, place: Path) -> None:
        """Mount it."""
        _run("mount", "-o", "loop", "--", str(self._image), str(place))
        with contextlib.suppress(OSError):
            (place / "lost+found").rmdir()  # it would come back with the data

    def unmount(self, place: Path) -> None:
        """Unmount it; a mount would find the same file system again while anything holds it.

        Another namespace of mounts may, for as long as it lives (a service that began meanwhile, a
        container): then a copy takes its place.
        """
        with contextlib.suppress(FaultUnavailable):  # of one that was shut down
            _run("sync", "--file-system", str(place))
        unmount(str(place))
        try:
            wait_until(
                lambda: not _run("losetup", "--associated", str(self._image)).strip(),
                _RELEASED_S,
                f"the disk of {place} to be released",
            )
        except DeadlineExceeded:
            held, self._image = self._image, self._home / f"disk-{secrets.token_hex(4)}.img"
            _run("cp", "--sparse=always", "--", str(held), str(self._image))
            held.unlink()

    def sync(self, place: Path) -> None:
        """Do nothing: the kernel writes back what is needed to start in time, or does not."""

    def forget(self, place: Path) -> None:
        """Shut it down as it is."""
        import fcntl  # noqa: PLC0415  not on Windows

        directory = os.open(place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, _WITHOUT_FLUSH)
        except OSError as error:
            raise FaultUnavailable(f"The power of {place} cannot be cut: {error}.") from error
        finally:
            os.close(directory)


@final
class FileSystemInUserSpace(Medium):
    """A directory behind a file system that can take back what was not forced to it."""

    _CUT: Final = ".rmqbench-cut"
    _SYNC: Final = ".rmqbench-sync"

    def __init__(self, home: Path) -> None:
        """Make it."""
        self._directory = home / "files"
        self._directory.mkdir(mode=0o700)
        self._log = home / "fuse.log"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """Return why it cannot be had here, in a few words; empty where nothing is known of it."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "a file system in user space needs /dev/fuse"
        try:
            import mfusepy  # noqa: F401, PLC0415  of an extra
        except ImportError:
            return "a file system in user space needs the extra fuse: pip install 'rmqbench[fuse]'"
        except OSError:
            return "a file system in user space needs libfuse: the package fuse3"
        return _missing("fusermount3")

    def mount(self, place: Path) -> None:
        """Mount it, by a process that lives until it is unmounted."""
        program = Path(__file__).with_name("undoing.py")
        names = str(self._directory), str(place), self._CUT, self._SYNC
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", str(program), *names],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=os.path.abspath(os.sep),
                start_new_session=True,  # Ctrl-C is not for it
            )
        wait_until(
            lambda: is_mounted(str(place)) or process.poll() is not None,
            _COMMAND_S,
            f"{place} to be mounted",
        )
        if process.poll() is not None:
            said = " ".join(self._log.read_text(errors="replace").split())[-300:]
            raise FaultUnavailable(
                f"No file system in user space at {place}: its process ended ({said})."
            )

    def unmount(self, place: Path) -> None:
        """Unmount it, and wait for its process."""
        unmount(str(place))
        process = self._process
        if process is not None:
            wait_until(lambda: process.poll() is not None, _COMMAND_S, f"{place} to be released")

    def sync(self, place: Path) -> None:
        """Force out all: some of what RabbitMQ needs to start it never forces out itself."""
        self._ask(place / self._SYNC)

    def forget(self, place: Path) -> None:
        """Take away what was not forced out."""
        self._ask(place / self._CUT)

    def _ask(self, for_what: Path) -> None:
        with contextlib.suppress(FileExistsError):  # its answer
            for_what.mkdir()


MEDIA: Final[tuple[type[Medium], ...]] = (FileSystemInAFile, FileSystemInUserSpace)
"""What a disk can be made of: the first that can be had is taken."""


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


def _missing(*tools: str) -> str:
    """Return in words which of some programs are not there."""
    missing = [each for each in tools if shutil.which(each) is None]
    return f"{' and '.join(missing)} cannot be found" if missing else ""
