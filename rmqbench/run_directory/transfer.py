"""The evidence of workers on other hosts: away while they work, packed there, unpacked here.

The directory of a worker holds a file named ``away`` until all of its evidence is back. What lies
beside it is no evidence before: nobody knows what the worker has done.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

__all__ = ["AWAY_FILE", "is_away", "mark_away", "pack", "unpack"]

AWAY_FILE = "away"
"""Says that the evidence of a worker is on another host."""

_NAME = re.compile(r"(\d+)/([a-z_]+\.(?:npy|bin|jsonl|log))")
_PIECE = 1 << 20
# More effort saves a twentieth and takes three times as long: most of what is left are checksums.
_EFFORT = 1


def mark_away(worker: Path) -> None:
    """Write down that the evidence of a worker is not here, before anything of it is elsewhere."""
    (worker / AWAY_FILE).touch()


def is_away(worker: Path) -> bool:
    """Whether the evidence of a worker is on another host, or was lost there."""
    return (worker / AWAY_FILE).exists()


def pack(workers: Sequence[Path], archive: Path, packed: Callable[[], object]) -> None:
    """Write all files of workers to an archive, a piece at a time.

    ``packed`` is called with each piece.
    """
    with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=_EFFORT) as whole:
        for number, worker in enumerate(workers):
            for path in sorted(worker.iterdir()):
                size = path.stat().st_size
                entry = whole.open(f"{number}/{path.name}", "w", force_zip64=size >= 1 << 31)
                with path.open("rb") as source, entry as target:
                    while piece := source.read(_PIECE):
                        target.write(piece)
                        packed()


def unpack(archive: bytes, workers: Sequence[Path]) -> None:
    """Write what :func:`pack` has packed to the directories of as many workers.

    Arrays are written into the files that are there: whoever has mapped them sees them filled. Then
    the evidence is back. Raise ValueError where it is not whole or not what :func:`pack` makes, and
    OSError where it cannot be written.
    """
    try:
        with ZipFile(BytesIO(archive)) as whole:
            for entry in whole.infolist():
                with whole.open(entry) as source, _opened(entry, workers) as target:
                    shutil.copyfileobj(source, target, _PIECE)
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ValueError(f"it is damaged ({error})") from error
    for worker in workers:
        (worker / AWAY_FILE).unlink()


def _opened(entry: ZipInfo, workers: Sequence[Path]) -> IO[bytes]:
    """Open the file of an entry, which has a plain name in the directory of one of the workers."""
    found = _NAME.fullmatch(entry.filename)
    if found is None or int(found[1]) >= len(workers):
        raise ValueError(f"it holds {entry.filename!r}, which is no file of a worker")
    path = workers[int(found[1])] / found[2]
    if path.is_symlink():
        raise ValueError(f"{path} is a symbolic link")
    if not path.exists():
        return path.open("xb")
    if path.stat().st_size != entry.file_size:
        raise ValueError(f"{path.name} is of another length than it should be")
    return path.open("r+b")
