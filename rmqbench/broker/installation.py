"""Find a RabbitMQ that is installed on this machine."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installation", "find_installed", "newest", "packaged_sbin"]

# Debian and RPM; Homebrew on Apple silicon; Homebrew on Intel.
_PACKAGED = "usr/lib/rabbitmq/lib"
_HOMEBREW = ("/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")
_ERLANG_HOMES = ("/usr/lib/erlang", "/usr/lib64/erlang", "/opt/homebrew/lib/erlang")


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of a RabbitMQ: its scripts, its Erlang, and libraries it brings along."""

    sbin: Path
    erlang_bin: Path  # holds erl and epmd
    what: str  # completes "a local node of …"
    libraries: tuple[Path, ...] = ()


def find_installed() -> Installation | None:
    """Find RabbitMQ's scripts and Erlang: by RABBITMQ_HOME, in the packages' places, by PATH.

    The command ``rabbitmq-server`` of most packages changes the user and insists on the system's
    own node; the scripts it wraps do neither, and are what is looked for.
    """
    erlang = _find_erlang()
    sbin = _find_sbin()
    if erlang is None or sbin is None:
        return None
    return Installation(sbin, erlang, f"the RabbitMQ installed in {sbin.parent}")


def newest(paths: list[Path]) -> Path | None:
    """Return the path whose name holds the highest version number."""

    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    return max(paths, key=version, default=None)


def packaged_sbin(root: Path) -> Path | None:
    """Find the scripts in a tree that is laid out as the packages are."""
    home = newest(list((root / _PACKAGED).glob("rabbitmq_server-*")))
    return home / "sbin" if home and _is_sbin(home / "sbin") else None


def _find_sbin() -> Path | None:
    home = os.environ.get("RABBITMQ_HOME")
    if home and _is_sbin(Path(home) / "sbin"):
        return Path(home) / "sbin"
    packaged = packaged_sbin(Path("/"))
    if packaged:
        return packaged
    candidates = [Path(text) for text in _HOMEBREW]
    command = shutil.which("rabbitmq-server")
    if command:
        candidates.insert(0, Path(command).resolve().parent)
    return next((path for path in candidates if _is_sbin(path)), None)


def _is_sbin(path: Path) -> bool:
    return (path / "rabbitmq-server").is_file() and (path / "rabbitmq-defaults").is_file()


def _find_erlang() -> Path | None:
    candidates = [Path(home) / "bin" for home in _ERLANG_HOMES]
    command = shutil.which("erl")
    if command:
        candidates[:0] = [Path(command).resolve().parent, Path(command).parent]
    for candidate in candidates:
        if (candidate / "erl").is_file() and (candidate / "epmd").is_file():
            return candidate
    return None
