"""Brokers: take one that is to be had, hold it, end it with us."""

from rmqbench.broker.external import probe
from rmqbench.broker.handle import Broker
from rmqbench.broker.opening import DEFAULT_IMAGE, install_local, open_broker
from rmqbench.broker.waiting import wait_until

__all__ = ["DEFAULT_IMAGE", "Broker", "install_local", "open_broker", "probe", "wait_until"]
