"""Settings of this repository's own tests; users of the plugin need none of it."""

import signal

pytest_plugins = ["pytester"]

# A shell that starts something in the background has it ignore SIGINT, and so all that it starts:
# tests interrupt programs, which must be able to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
