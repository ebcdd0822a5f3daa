"""What pika makes of messages: the frames that ours are compared with."""

import pika.frame
import pika.spec


def marshal(recipe, channel, method, message, frame_max):
    """Return what pika sends for one message (``Channel.basic_publish`` and ``_send_message``)."""
    body = recipe.body(*message)
    room = frame_max - 8 if frame_max else len(body)
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), recipe.properties(*message)),
        *(pika.frame.Body(channel, body[i : i + room]) for i in range(0, len(body), room)),
    ]
    return b"".join(frame.marshal() for frame in frames)


def delivery(recipe, tag, redelivered, message, *, channel=1, consumer="c", frame_max=131072):
    """Return all frames of one delivery."""
    method = pika.spec.Basic.Deliver(consumer, tag, redelivered, "direct.exchange", "work")
    return marshal(recipe, channel, method, message, frame_max)
