"""A file system in user space that can take back what was not forced to it: a program.

It passes everything on to a directory, and remembers how to undo what the kernel of a machine that
loses its power would not have on its disk yet: names (created, renamed, removed) until any file is
forced out (fsync), or five seconds have passed; what was written to a file until that file is
forced out, or half a minute has passed. So ext4 and the kernel's defaults have it.

It is run by its path, until it is unmounted, with the directory, the place where it is mounted, and
two names: who makes a directory of the first one there takes back all that, who makes one of the
second has it all forced out; neither is made. It needs mfusepy and libfuse, and nothing of ours.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import mfusepy

__all__: list[str] = []

_NAMES_S = 5.0  # ext4 commits its journal so often
_WRITES_S = 30.0  # vm.dirty_expire_centisecs
_REMOVED: Final = ".rmqbench-removed"  # what was removed, until that cannot be undone any more


@dataclass(frozen=True)
class _Written:
    """What stood where something was written, or cut off: ``size`` is that of the file before."""

    at: float
    size: int
    offset: int
    before: bytes


@dataclass
class _File:
    """A file of which not all was forced out."""

    number: int  # of its descriptor
    writes: list[_Written] = field(default_factory=list)

    def undo(self, since: float) -> None:
        for each in reversed(self.writes):
            if each.at >= since:
                os.ftruncate(self.number, each.size)
                os.pwrite(self.number, each.before, each.offset)
        os.close(self.number)

    def forget(self, until: float) -> None:
        self.writes = [each for each in self.writes if each.at >= until]


@dataclass(frozen=True)
class _Named:
    """A change of names, how it is undone, and what is done when it cannot be any more."""

    at: float
    undo: Callable[[], object]
    settle: Callable[[], object]


def _nothing() -> None:
    pass


def _give_to_its_maker(path: str) -> None:
    """Make who asked for it the owner of something new: root passes it on for others."""
    if os.geteuid() == 0:
        user, group, _ = mfusepy.fuse_get_context()
        os.lchown(path, user, group)


class _Undoing(mfusepy.Operations):  # type: ignore[misc]
    """The file system: paths are those below the place where it is mounted."""

    use_ns = True

    def __init__(self, directory: str, cut: str, sync: str) -> None:
        self._directory = directory
        self._acts = {cut: self._cut, sync: self._sync}
        self._removed = os.path.join(directory, _REMOVED)
        self._count = 0
        self._files: dict[int, _File] = {}  # by inode
        self._names: list[_Named] = []
        os.makedirs(self._removed, exist_ok=True)

    # --- what can be undone ----------------------------------------------------------------------

    def _commit(self, inode: int | None = None) -> None:
        """Force out all names, and a file."""
        for each in self._names:
            each.settle()
        self._names.clear()
        done = self._files.pop(inode, None) if inode is not None else None
        if done is not None:
            os.close(done.number)

    def _sync(self) -> None:
        for inode in list(self._files):
            self._commit(inode)
        self._commit()

    def _cut(self) -> None:
        now = time.monotonic()
        for file in self._files.values():
            file.undo(now - _WRITES_S)
        self._files.clear()
        for each in reversed(self._names):
            if each.at >= now - _NAMES_S:
                each.undo()
            else:
                each.settle()
        self._names.clear()

    def _note_names(
        self, undo: Callable[[], object], settle: Callable[[], object] = _nothing
    ) -> None:
        now = time.monotonic()
        while self._names and self._names[0].at < now - _NAMES_S:
            self._names.pop(0).settle()
        self._names.append(_Named(now, undo, settle))

    def _note_write(self, number: int, offset: int, length: int) -> None:
        """Remember what stands where something is about to be written, or cut off."""
        now, status = time.monotonic(), os.fstat(number)
        file = self._files.get(status.st_ino)
        if file is None:
            file = self._files[status.st_ino] = _File(os.dup(number))
        elif file.writes[0].at < now - 2 * _WRITES_S:
            file.forget(now - _WRITES_S)
        before = os.pread(number, length, offset) if offset < status.st_size else b""
        file.writes.append(_Written(now, status.st_size, offset, before))

    def _set_aside(self, path: str) -> str:
        self._count += 1
        place = os.path.join(self._removed, str(self._count))
        os.rename(path, place)
        return place

    # --- names -----------------------------------------------------------------------------------

    def _real(self, path: str) -> str:
        return self._directory + path

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        real = self._real(path)
        number = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        _give_to_its_maker(real)
        self._note_names(lambda: os.unlink(real))
        return number

    def mkdir(self, path: str, mode: int) -> None:
        if act := self._acts.get(os.path.basename(path)):
            act()
            raise mfusepy.FuseOSError(errno.EEXIST)
        real = self._real(path)
        os.mkdir(real, mode)
        _give_to_its_maker(real)
        self._note_names(lambda: os.rmdir(real))

    def rmdir(self, path: str) -> None:
        real = self._real(path)
        mode = stat.S_IMODE(os.lstat(real).st_mode)
        os.rmdir(real)
        self._note_names(lambda: os.mkdir(real, mode))

    def unlink(self, path: str) -> None:
        real = self._real(path)
        aside = self._set_aside(real)
        self._note_names(lambda: os.rename(aside, real), lambda: os.unlink(aside))

    def rename(self, old: str, new: str) -> None:
        there, here = self._real(old), self._real(new)
        if os.path.isfile(here) or os.path.islink(here):
            self.unlink(new)
        os.rename(there, here)
        self._note_names(lambda: os.rename(here, there))

    def symlink(self, target: str, source: str) -> None:
        real = self._real(target)
        os.symlink(source, real)
        _give_to_its_maker(real)
        self._note_names(lambda: os.unlink(real))

    def link(self, target: str, source: str) -> None:
        real = self._real(target)
        os.link(self._real(source), real)
        self._note_names(lambda: os.unlink(real))

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        yield from (".", "..")
        yield from (each for each in os.listdir(self._real(path)) if each != _REMOVED)

    # --- files -----------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        """Open it for reading, too: for what is overwritten. The kernel knows where its end is."""
        wanted = flags & ~(os.O_APPEND | os.O_TRUNC | os.O_ACCMODE)
        reads = flags & os.O_ACCMODE == os.O_RDONLY
        number = os.open(self._real(path), wanted | (os.O_RDONLY if reads else os.O_RDWR))
        if flags & os.O_TRUNC:
            self.truncate(path, 0, number)
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._note_write(fh, offset, len(data))
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        number = os.open(self._real(path), os.O_RDWR) if fh is None else fh
        try:
            self._note_write(number, length, max(0, os.fstat(number).st_size - length))
            os.ftruncate(number, length)
        finally:
            if fh is None:
                os.close(number)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._commit(os.fstat(fh).st_ino)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._commit()

    def flush(self, path: str, fh: int) -> None:
        """Do nothing: closing a file forces nothing out."""

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    # --- what is passed on -----------------------------------------------------------------------

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._real(path))
        names = ("mode", "ino", "nlink", "uid", "gid", "size")
        plain = {f"st_{name}": getattr(status, f"st_{name}") for name in names}
        times = ("atime", "mtime", "ctime")
        return plain | {f"st_{name}": getattr(status, f"st_{name}_ns") for name in times}

    def access(self, path: str, amode: int) -> None:
        if not os.access(self._real(path), amode):
            raise mfusepy.FuseOSError(errno.EACCES)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._real(path), uid, gid)

    def utimens(self, path: str, times: Any = None) -> None:
        os.utime(self._real(path), ns=times)

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._real(path))
        names = [
            "bsize",
            "frsize",
            "blocks",
            "bfree",
            "bavail",
            "files",
            "ffree",
            "favail",
            "flag",
            "namemax",
        ]
        return {f"f_{name}": getattr(status, f"f_{name}") for name in names}


if __name__ == "__main__":
    directory, place, *names = sys.argv[1:]
    os.umask(0)  # the kernel has taken off what is to be taken off
    mfusepy.FUSE(
        _Undoing(directory, *names),
        place,
        foreground=True,
        nothreads=True,
        fsname="rmqbench",
        allow_other=os.geteuid() == 0,  # a container's node is another user
    )
