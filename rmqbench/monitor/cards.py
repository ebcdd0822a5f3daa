"""The cards of the dashboard: summary, nodes, queues, connections."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions
from rich.text import Text

from rmqbench.monitor.layout import (
    FRAME,
    Column,
    Drawing,
    beside,
    card,
    fit,
    pair,
    table,
    tiles,
)
from rmqbench.monitor.model import Connection, Consumer, Node, Picture, Queue
from rmqbench.monitor.short import line, short, short_bytes, short_rate
from rmqbench.text import counted

__all__ = ["Pen"]

CARD = 39
"""The width of the narrowest queue card; one blank column separates two of them."""
CONSUMERS = 3
"""The most consumers that are shown on the card of a queue."""

_MARKS = {"green": "●", "yellow": "▲", "red": "■"}  # different without colours, too
_TITLE = "bold not dim"  # a title inherits the style of its frame
_SIDE_BY_SIDE = 112
_WIDE_SUMMARY = 68
_ONE_LINE_CONSUMER = 62
_FIGURE = 20
_QUEUE_LINES = 4


class Pen:
    """Draws cards for one width; with ``several`` virtual hosts each queue shows its own."""

    def __init__(self, console: Console, options: ConsoleOptions, *, several: bool) -> None:
        self._console = console
        self._options = options
        self._several = several
        self.width = options.max_width

    # --- the head -------------------------------------------------------------------------------

    def head(self, picture: Picture, where: str, *, tall: bool) -> Drawing:
        """Draw the summary, and the nodes beside it where there is room, otherwise below."""
        if self.width < _SIDE_BY_SIDE:
            summary = self._summary(picture, where, self.width, 0, tall=tall)
            return summary + self._nodes(picture, self.width, 0)
        left = (self.width - 1) * 3 // 5
        right = self.width - 1 - left
        height = max(
            len(self._summary(picture, where, left, 0, tall=True)),
            len(self._nodes(picture, right, 0)),
        )
        return beside(
            [
                self._summary(picture, where, left, height, tall=True),
                self._nodes(picture, right, height),
            ]
        )

    def _summary(
        self, picture: Picture, where: str, width: int, height: int, *, tall: bool
    ) -> Drawing:
        summary = picture.summary
        unacknowledged = "unacknowledged" if width >= _WIDE_SUMMARY else "unacked"
        counts = [
            (_strong(summary.queues), "queues"),
            (_strong(summary.active), "active"),
            (_strong(summary.consumers), "consumers"),
            (_strong(summary.connections), "connections"),
            (_strong(summary.ready), "ready"),
            (_strong(summary.unacknowledged), unacknowledged),
        ]
        rates = [
            (_rate_text(summary.publish_rate), "publish"),
            (_rate_text(summary.deliver_rate), "deliver"),
            (_rate_text(summary.ack_rate), "ack"),
        ]
        inner = width - FRAME
        lines = tiles([counts + rates], inner)
        if len(lines) > 2:
            lines = tiles([counts, rates] if tall else [counts], inner)
        title = Text.assemble(("RabbitMQ", _TITLE), f" {line(picture.version)}", (where, "dim"))
        return self._card(lines, width, title, height=height)

    def _nodes(self, picture: Picture, width: int, height: int) -> Drawing:
        inner = width - FRAME
        if picture.nodes is None:
            hidden = Text("Shown only to a user with the tag 'monitoring'.", "dim")
            return self._card([fit(hidden, inner)], width, Text("Nodes", _TITLE), height=height)
        columns = [
            Column[Node]("memory", 11, 0, _memory_text, right=True),
            Column[Node]("limit", 8, 2, lambda each: _bytes_text(each.memory_limit), right=True),
            Column[Node]("disk free", 9, 1, _disk_text, right=True),
        ]
        lines = table(picture.nodes, Column("name", 12, 0, _node_text), columns, inner)
        alarms = [(each, alarm) for each in picture.nodes for alarm in each.alarms]
        for node, alarm in alarms:
            text = f"{line(alarm)} alarm: publishers are blocked ({line(node.name)})"
            lines.append(fit(Text(text, "bold red"), inner))
        down = any(not each.running for each in picture.nodes)
        title = Text.assemble(
            ("Nodes", _TITLE),
            (" · ", "dim"),
            ("alarm", f"{_TITLE} red") if alarms else ("no alarms", "dim"),
        )
        border = "red" if alarms or down else "dim"
        return self._card(lines, width, title, border=border, height=height)

    def words(self, words: str) -> Drawing:
        """Draw a card with words in place of figures."""
        return self._card(
            [fit(Text(words, "dim"), self.width - FRAME)], self.width, Text("Queues", _TITLE)
        )

    # --- queues ---------------------------------------------------------------------------------

    def cards_height(self, queues: Sequence[Queue], consumers: int) -> int:
        """Return the height of the queues' cards without drawing them."""
        return sum(height for _, height in self._grid(queues, consumers))

    def queue_cards(self, queues: Sequence[Queue], consumers: int) -> Drawing:
        """Draw a card for each queue, as many side by side as there is room for."""
        drawing: Drawing = []
        columns = self._columns
        room = self.width - (columns - 1)
        widths = [(room + each) // columns for each in range(columns)]
        for row, height in self._grid(queues, consumers):
            drawing += beside(
                [
                    self._queue_card(queue, width, height, consumers)
                    for queue, width in zip(row, widths, strict=False)
                ]
            )
        return drawing

    @property
    def _columns(self) -> int:
        return max(1, (self.width + 1) // (CARD + 1))

    def _grid(self, queues: Sequence[Queue], consumers: int) -> list[tuple[Sequence[Queue], int]]:
        columns = self._columns
        width = (self.width - (columns - 1)) // columns - FRAME
        each_lines = 1 if width >= _ONE_LINE_CONSUMER else 2
        rows = []
        for start in range(0, len(queues), columns):
            row = queues[start : start + columns]
            shown = max(min(len(each.consumers), consumers) for each in row)
            more = any(len(each.consumers) > consumers > 0 for each in row)
            rows.append((row, 2 + _QUEUE_LINES + shown * each_lines + more))
        return rows

    def _queue_card(self, queue: Queue, width: int, height: int, consumers: int) -> Drawing:
        inner = width - FRAME
        title = Text.assemble(_mark(queue), " ", (line(queue.name), _TITLE))
        count = counted(queue.consumer_count, "consumer", form=",") if queue.consumer_count else ""
        lines = [
            pair(_state_text(queue, queue.state), Text(count or "no consumers", "dim"), inner),
            *_figures(queue, inner),
        ]
        for each in queue.consumers[:consumers]:
            lines += _consumer_lines(each, inner)
        more = len(queue.consumers) - consumers
        if more > 0 and consumers:
            lines.append(
                fit(Text(f"… and {counted(more, 'more consumer', form=',')}", "dim"), inner)
            )
        place = f" · {line(queue.vhost)}" if self._several else ""
        subtitle = Text(f"{line(queue.kind)}{place}", "dim")
        border = "dim" if queue.depth == "green" else queue.depth
        return self._card(lines, width, title, subtitle, border=border, height=height)

    def queue_rows(self, queues: Sequence[Queue], title: str, last: str = "") -> Drawing:
        """Draw one card with a line for each queue."""
        columns = [
            Column[Queue]("state", 10, 4, lambda each: _state_text(each, _short_state(each))),
            Column[Queue]("ready", 5, 1, lambda each: Text(short(each.ready)), right=True),
            Column[Queue](
                "unacked", 7, 2, lambda each: Text(short(each.unacknowledged)), right=True
            ),
            Column[Queue]("total", 5, 0, _total_text, right=True),
            Column[Queue](
                "publish", 7, 5, lambda each: _queue_rate(each, each.publish_rate), right=True
            ),
            Column[Queue](
                "deliver", 7, 6, lambda each: _queue_rate(each, each.deliver_rate), right=True
            ),
            Column[Queue]("ack", 7, 7, lambda each: _queue_rate(each, each.ack_rate), right=True),
            Column[Queue](
                "consumers", 9, 3, lambda each: Text(short(each.consumer_count)), right=True
            ),
        ]
        if self._several:
            columns.insert(0, Column[Queue]("vhost", 14, 8, lambda each: Text(line(each.vhost))))
        name = Column[Queue](
            "  name", 14, 0, lambda each: Text.assemble(_mark(each), " ", line(each.name))
        )
        inner = self.width - FRAME
        lines = table(queues, name, columns, inner)
        if last:
            lines.append(fit(Text(last, "dim"), inner))
        return self._card(lines, self.width, _section("Queues", title))

    # --- connections ----------------------------------------------------------------------------

    def connections(self, connections: Sequence[Connection], title: str, last: str) -> Drawing:
        """Draw one card with a line for each connection."""
        columns = [
            Column[Connection]("host", 21, 0, lambda each: Text(line(each.host))),
            Column[Connection]("user", 12, 2, lambda each: Text(line(each.user))),
            Column[Connection]("state", 8, 1, _connection_state),
            Column[Connection](
                "channels", 8, 3, lambda each: Text(short(each.channels)), right=True
            ),
            Column[Connection](
                "received", 9, 4, lambda each: _traffic_text(each.received_rate), right=True
            ),
            Column[Connection](
                "sent", 9, 5, lambda each: _traffic_text(each.sent_rate), right=True
            ),
        ]
        if self._several:
            vhost = Column[Connection]("vhost", 14, 6, lambda each: Text(line(each.vhost)))
            columns.insert(2, vhost)
        name = Column[Connection]("name", 12, 0, lambda each: Text(line(each.name)))
        inner = self.width - FRAME
        lines = table(connections, name, columns, inner)
        if last:
            lines.append(fit(Text(last, "dim"), inner))
        return self._card(lines, self.width, _section("Connections", title))

    def _card(
        self,
        lines: Sequence[Text],
        width: int,
        title: Text,
        subtitle: Text | None = None,
        *,
        border: str = "dim",
        height: int = 0,
    ) -> Drawing:
        return card(
            self._console,
            self._options,
            lines,
            width,
            title=title,
            subtitle=subtitle,
            border=border,
            height=height,
        )


def _figures(queue: Queue, width: int) -> list[Text]:
    """Return lines with depths on the left and, if the queue is active, rates on the right."""
    cells = min(_FIGURE, (width - 3) // 2)
    depths = [("ready", short(queue.ready)), ("unacked", short(queue.unacknowledged))]
    rates = [
        ("publish", short_rate(queue.publish_rate)),
        ("deliver", short_rate(queue.deliver_rate)),
        ("ack", short_rate(queue.ack_rate)),
    ]
    left = [pair(Text(label, "dim"), Text(value), cells) for label, value in depths]
    left.append(pair(Text("total", "dim"), _total_text(queue), cells))
    right = [pair(Text(label, "dim"), Text(value), cells) for label, value in rates]
    if not queue.activity:
        right = [Text()] * len(left)
    return [
        fit(Text.assemble(depth, "   ", rate), width)
        for depth, rate in zip(left, right, strict=True)
    ]


def _consumer_lines(consumer: Consumer, width: int) -> list[Text]:
    """Return one or two lines: tag and prefetch, connection and mode of acknowledgement."""
    tag = Text(f"→ {line(consumer.tag)}")
    prefetch = f"prefetch {consumer.prefetch:,}" if consumer.prefetch else "no prefetch"
    mode = "manual ack" if consumer.manual_ack else "auto ack"
    if consumer.status not in ("", "up", "single_active"):
        mode = f"{line(consumer.status)}, {mode}"
    where = line(f"{consumer.host} {consumer.connection}".strip())
    if width >= _ONE_LINE_CONSUMER:
        left = fit(tag, width // 4).append("  ").append(where, "dim")
        return [pair(left, Text(f"{prefetch}, {mode}", "dim"), width)]
    return [
        pair(tag, Text(prefetch, "dim"), width),
        pair(Text(f"  {where}", "dim"), Text(mode, "dim"), width),
    ]


def _mark(queue: Queue) -> tuple[str, str]:
    return _MARKS[queue.depth], f"not dim {queue.depth}"


def _state_text(queue: Queue, words: str) -> Text:
    if not queue.healthy:
        return Text(line(words), "bold red")
    return Text(words, "cyan" if queue.activity else "dim")


def _short_state(queue: Queue) -> str:
    return "pub + cons" if queue.healthy and len(queue.activity) > 1 else queue.state


def _total_text(queue: Queue) -> Text:
    return Text(short(queue.total), f"bold {queue.depth}")


def _rate_text(rate: float) -> Text:
    return Text(short_rate(rate), "" if rate else "dim")


def _queue_rate(queue: Queue, rate: float) -> Text:
    return _rate_text(rate) if queue.activity else Text()


def _traffic_text(rate: float) -> Text:
    return Text(f"{short_bytes(rate)}/s", "" if rate else "dim")


def _bytes_text(number: int) -> Text:
    return Text(short_bytes(number) if number else "")


def _node_text(node: Node) -> Text:
    trouble = bool(node.alarms) or not node.running
    return Text.assemble(
        ("■" if trouble else "●", "red" if trouble else "green"),
        f" {line(node.name)}",
        "" if node.running else (" down", "bold red"),
    )


def _memory_text(node: Node) -> Text:
    used = short_bytes(node.memory_used) if node.memory_used else ""
    share = f" {node.memory_used / node.memory_limit:4.0%}" if node.memory_limit else ""
    return Text(f"{used}{share}", "bold red" if "memory" in node.alarms else "")


def _disk_text(node: Node) -> Text:
    known = short_bytes(node.disk_free) if node.disk_free else ""
    return Text(known, "bold red" if "disk" in node.alarms else "")


def _connection_state(connection: Connection) -> Text:
    calm = connection.state in ("running", "")
    return Text(line(connection.state), "dim" if calm else "yellow")


def _strong(number: int) -> Text:
    return Text(short(number), "bold")


def _section(name: str, more: str) -> Text:
    return Text.assemble((name, _TITLE), (f" · {more}", "dim"))
