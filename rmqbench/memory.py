"""How much memory this process takes."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["peak_rss_bytes"]


def peak_rss_bytes() -> int:
    """Return the most memory that this process ever had resident, in bytes."""
    # Not ru_maxrss: across fork and exec it keeps the parent's (getrusage(2), Linux).
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    import psutil  # noqa: PLC0415  only other systems need it

    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))
