"""What RabbitMQ refuses, and how: as an exception of the channel or of the connection.

The reply codes are those of the AMQP 0-9-1 specification, section 1.1 of the reference; a code
says whether the channel ends, or the whole connection.
"""

from __future__ import annotations

from typing import Final, final

__all__ = [
    "ACCESS_REFUSED",
    "CHANNEL_ERROR",
    "COMMAND_INVALID",
    "CONNECTION_FORCED",
    "FRAME_ERROR",
    "INTERNAL_ERROR",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "PRECONDITION_FAILED",
    "RESOURCE_LOCKED",
    "SYNTAX_ERROR",
    "UNEXPECTED_FRAME",
    "RefusedError",
    "resource",
]

CONNECTION_FORCED: Final = 320
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
FRAME_ERROR: Final = 501
SYNTAX_ERROR: Final = 502
COMMAND_INVALID: Final = 503
CHANNEL_ERROR: Final = 504
UNEXPECTED_FRAME: Final = 505
NOT_ALLOWED: Final = 530
NOT_IMPLEMENTED: Final = 540
INTERNAL_ERROR: Final = 541

_NAMES: Final = {
    CONNECTION_FORCED: "CONNECTION_FORCED",
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    FRAME_ERROR: "FRAME_ERROR",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    COMMAND_INVALID: "COMMAND_INVALID",
    CHANNEL_ERROR: "CHANNEL_ERROR",
    UNEXPECTED_FRAME: "UNEXPECTED_FRAME",
    NOT_ALLOWED: "NOT_ALLOWED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    INTERNAL_ERROR: "INTERNAL_ERROR",
}
_MOST_TEXT: Final = 255  # a reply text is a short string


@final
class RefusedError(Exception):
    """RabbitMQ refuses a method. ``text`` is the reply text as the client sees it."""

    def __init__(self, code: int, explanation: str) -> None:
        super().__init__(code, explanation)
        self.code = code
        text = f"{_NAMES[code]} - {explanation}".encode()[:_MOST_TEXT]
        self.text = text.decode(errors="ignore")

    @property
    def ends_connection(self) -> bool:
        """Whether the whole connection ends, and not only the channel."""
        return self.code in {CONNECTION_FORCED} or self.code >= FRAME_ERROR


def resource(kind: str, name: str, virtual_host: str) -> str:
    """Return how RabbitMQ names a queue or an exchange in its texts."""
    return f"{kind} '{name}' in vhost '{virtual_host}'"
