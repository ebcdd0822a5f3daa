"""Settings of this repository's own tests; users of the plugin need none of it."""

import signal

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the dev extra brings it
    pass
else:  # how long an example takes is the machine's affair
    settings.register_profile(
        "rmqbench", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("rmqbench")

pytest_plugins = ["pytester"]


def pytest_configure(config):
    """Know the mark of pytest-timeout, which the dev extra brings, also where that is missing."""
    config.addinivalue_line("markers", "timeout(seconds): the limit of a test that takes long")


# A shell that starts something in the background has it ignore SIGINT, and so all that it starts:
# tests interrupt programs, which must be able to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
