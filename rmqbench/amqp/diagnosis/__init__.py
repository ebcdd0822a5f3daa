"""What the errors of connections and channels mean to a person.

Here pika's exceptions become rmqbench's own (:mod:`rmqbench.errors`). No text holds a password.
"""

from rmqbench.amqp.diagnosis.channels import channel_error
from rmqbench.amqp.diagnosis.connecting import connect_error, diagnose, is_early_end

__all__ = ["channel_error", "connect_error", "diagnose", "is_early_end"]
