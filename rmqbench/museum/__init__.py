"""The museum: real losses of RabbitMQ, each a file, and each reproduced by one line."""

from __future__ import annotations

from rmqbench.museum.catalogue import Exhibit, exhibit, exhibits
from rmqbench.museum.reproducing import Reproduction, reproduce

__all__ = ["Exhibit", "Reproduction", "exhibit", "exhibits", "reproduce"]
