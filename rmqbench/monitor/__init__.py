"""A broker at a glance: the Management API's figures as cards in a terminal.

``model`` and ``view`` compute, ``source`` asks, ``keys`` listens, ``screen`` brings them together.
"""

from __future__ import annotations
