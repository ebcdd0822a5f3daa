"""The directory of a run: all that a verdict, a figure or a chart needs, written while it happens.

Its files are described in .github/docs/run-directory.md.
"""

from rmqbench.run_directory.directory import FORMAT, RunDirectory

__all__ = ["FORMAT", "RunDirectory"]
