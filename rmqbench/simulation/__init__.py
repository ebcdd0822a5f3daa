"""A simulated RabbitMQ that knows the truth: its rules as a pure server side of AMQP 0-9-1.

Bytes go in and bytes come out; there is no socket, no thread and no clock. Whoever writes an AMQP
client gets RabbitMQ's rules without RabbitMQ::

    broker = ModelBroker(timer)                       # anything with now() and call_later()
    session = broker.connect(to_client, on_lost)      # one TCP connection
    session.receive(b"AMQP\\x00\\x00\\x09\\x01")        # what the client has sent
    broker.truth.events                               # what has truly happened

Not modelled: streams, clusters, transactions, priorities of messages, the CC and BCC headers,
direct reply-to, ``basic.qos`` for a whole channel (it counts as for each consumer), consumer
timeouts, permissions, and mechanisms other than PLAIN.
"""

from rmqbench.simulation.behaviour import Behaviour, Misdeed, Moment, SeededBehaviour
from rmqbench.simulation.broker import Cancellable, Counts, ModelBroker, Timer
from rmqbench.simulation.content import Content
from rmqbench.simulation.session import Session
from rmqbench.simulation.truth import Truth

__all__ = [
    "Behaviour",
    "Cancellable",
    "Content",
    "Counts",
    "Misdeed",
    "ModelBroker",
    "Moment",
    "SeededBehaviour",
    "Session",
    "Timer",
    "Truth",
]
