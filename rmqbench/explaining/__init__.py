"""What a verdict means: its findings in plain words, their likely causes, the life of a message.

Pure functions over what :func:`rmqbench.run_directory.reading.read_run` returns. What each finding
means is one entry of :data:`rmqbench.explaining.meanings.MEANINGS`; what makes an open verdict
conclusive is one of :data:`rmqbench.explaining.reasons.SETTLING`.
"""

from rmqbench.explaining.account import Account, explain
from rmqbench.explaining.verdicts import explained, open_question

__all__ = ["Account", "explain", "explained", "open_question"]
