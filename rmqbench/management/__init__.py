"""RabbitMQ's Management API: a client, its answers, and a series of samples."""

from rmqbench.management.client import Management

__all__ = ["Management"]
