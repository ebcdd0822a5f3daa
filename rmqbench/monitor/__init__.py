"""A broker at a glance: the Management API's figures as cards in a terminal.

``model`` holds what was said, ``cards``, ``layout`` and ``view`` draw it; ``source`` asks, ``keys``
listens, ``screen`` brings them together.
"""

from __future__ import annotations
