"""Brokers: take one that is available, hold it, and end it with us if it is ours."""

from rmqbench.broker.disk import Disk, own_disk
from rmqbench.broker.external import probe
from rmqbench.broker.handle import Broker
from rmqbench.broker.opening import DEFAULT_IMAGE, install_local, open_broker

__all__ = ["DEFAULT_IMAGE", "Broker", "Disk", "install_local", "open_broker", "own_disk", "probe"]
