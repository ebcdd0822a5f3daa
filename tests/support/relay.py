"""A relay between a client and a broker that rewrites what the broker sends, frame by frame."""

import contextlib
import socket
import threading
from dataclasses import replace

import pika.frame
import pika.spec

from rmqbench.amqp.framing import DELIVER, METHOD, ContentAssembler, FrameCutter


class Relay:
    """Listens on a port of its own; a context manager.

    ``method`` is given each method frame that carries no content, ``delivery`` the frames of each
    delivery; both return the bytes that are passed on instead.
    """

    def __init__(self, endpoint, *, method=lambda frame: frame, delivery=b"".join):
        self._server = socket.create_server(("127.0.0.1", 0))
        self._broker = (endpoint.host, endpoint.port)
        self._method, self._delivery = method, delivery
        self._sockets, self._threads = [self._server], []
        self.endpoint = replace(endpoint, host="127.0.0.1", port=self._server.getsockname()[1])

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(self._broker)
                self._sockets += [client, broker]
                self._start(self._pass_on, client, broker, lambda data: data)
                self._start(self._pass_on, broker, client, self._rewriting())

    def _pass_on(self, source, sink, rewrite):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(rewrite(data))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _rewriting(self):
        cutter, contents = FrameCutter(), ContentAssembler()

        def rewrite(data):
            passed_on = []
            for frame in cutter.feed(data):
                content, _ = contents.add(frame)
                if content is None:
                    is_method = frame.kind == METHOD
                    passed_on.append(self._method(frame.data) if is_method else frame.data)
                elif content.is_whole:
                    frames = content.frames
                    is_delivery = content.method == DELIVER
                    passed_on.append(self._delivery(frames) if is_delivery else b"".join(frames))
            return b"".join(passed_on)

        return rewrite


def nacked_after(nth):
    """Return a rewriting of methods: the n-th basic.ack is followed by a basic.nack of its tag."""
    seen = []

    def rewrite(frame):
        decoded = pika.frame.decode_frame(frame)[1]
        if not isinstance(decoded.method, pika.spec.Basic.Ack):
            return frame
        seen.append(frame)
        if len(seen) != nth:
            return frame
        nack = pika.spec.Basic.Nack(decoded.method.delivery_tag, False, False)
        return frame + pika.frame.Method(decoded.channel_number, nack).marshal()

    return rewrite


def flagged_copy(frames):
    """Return a delivery and, behind it, the same with the same tag and the flag redelivered."""
    decoded = pika.frame.decode_frame(frames[0])[1]
    method = decoded.method
    copy = pika.spec.Basic.Deliver(
        method.consumer_tag, method.delivery_tag, True, method.exchange, method.routing_key
    )
    again = pika.frame.Method(decoded.channel_number, copy).marshal()
    return b"".join([*frames, again, *frames[1:]])


def body_changed(change, nth):
    """Return a rewriting of deliveries: the body of the n-th is what ``change`` makes of it."""
    seen = []

    def rewrite(frames):
        seen.append(frames)
        if len(seen) != nth:
            return b"".join(frames)
        body = pika.frame.decode_frame(frames[2])[1]
        changed = pika.frame.Body(body.channel_number, change(body.fragment)).marshal()
        return b"".join([*frames[:2], changed])

    return rewrite


def header_added(name, value):
    """Return a rewriting of deliveries: each carries one more header."""

    def rewrite(frames):
        header = pika.frame.decode_frame(frames[1])[1]
        header.properties.headers = {**header.properties.headers, name: value}
        return b"".join([frames[0], header.marshal(), *frames[2:]])

    return rewrite
