"""What a client does, on the model and on a real broker: scripts of ``support.lockstep``."""

from support.scripts import basics, limits, operating, settling

SCRIPTS = basics.SCRIPTS + settling.SCRIPTS + limits.SCRIPTS + operating.SCRIPTS
