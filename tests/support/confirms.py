"""Confirms by hand: acks and nacks as a broker would say them."""

import numpy as np

from rmqbench.amqp.vector import Confirms


def confirms(*rows):
    """Return acks and nacks as they came: (tag, multiple, nack) each."""
    tags, multiple, nack = zip(*rows, strict=True)
    return Confirms(1, np.array(tags), np.array(multiple, bool), np.array(nack, bool))


def ack(tag, multiple=False):
    """Return one ack."""
    return tag, multiple, False


def nack(tag, multiple=False):
    """Return one nack."""
    return tag, multiple, True
