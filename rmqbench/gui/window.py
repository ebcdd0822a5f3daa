"""The window: Tk and nothing else. What it shows comes from a feed, already fit to be shown.

Text reaches Tk only as an argument of a command, never as a part of a script. The feed's thread
never touches Tk; the window looks for what came, many times a second, and so it hears signals too.
"""

from __future__ import annotations

import signal
import time
import tkinter as tk
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from tkinter import font, ttk
from types import TracebackType
from typing import Any

from rmqbench.errors import RmqbenchError
from rmqbench.gui.feed import Activity, Feed, State
from rmqbench.gui.look import AMBER, GREEN, RED, apply_look, style_page
from rmqbench.gui.rows import Part, Received, Row, about, clock_text, contents, row, shown
from rmqbench.text import counted

__all__ = ["Window", "open_root"]

_TICK_MS = 100
_BUSY_TICK_MS = 25  # when enough came that the broker may be waiting for acknowledgements
_BATCH = 1000  # messages at once, so that the window reacts in between
_RATE_OVER_S = 2.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")

_COLUMNS = {"time": "Received", "sender": "Sender", "host": "Host", "text": "Text"}
_WIDTHS = {"time": "00:00:00.000", "sender": "m" * 12, "host": "m" * 12, "text": "m" * 20}
_COLOURS = {Activity.CONSUMING: GREEN, Activity.NO_QUEUE: RED, Activity.ENDED: RED}
# One call for many rows: each lets the feed's thread run and then waits for it, up to 5 ms; and
# Treeview.insert would quote each cell in Python. A tuple becomes a list of Tcl as it is.
_APPEND = """{table rows} {
    foreach {name cells} $rows {$table insert {} end -id $name -values $cells}
}"""
_HINT = "Choose a message to see all of it."
_NOTE = "Messages are taken from the queue: each is acknowledged as soon as it is shown here."


def open_root() -> tk.Tk:
    """Open Tk with its main window still hidden; RmqbenchError where there is no display."""
    try:
        root = tk.Tk(className="rmqbench")
    except tk.TclError as error:
        raise RmqbenchError(
            f"There is no display to open a window on ({str(error).rstrip('.')}).",
            "Run it in a desktop session (over SSH with ssh -X; DISPLAY names the display), or use "
            "rmqbench consume.",
        ) from error
    root.withdraw()
    return root


class Window:
    """Shows the last ``keep`` messages of a feed in a table, and all of a chosen one below it."""

    def __init__(
        self,
        root: tk.Tk,
        feed: Feed,
        *,
        keep: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build the window in ``root``, which it owns from now on."""
        self.root = root
        self.feed = feed
        self.keep = keep
        self.paused = False
        self.following = True  # the newest message is kept in sight
        self._clock = clock
        self._messages: dict[str, Received] = {}
        self._order: deque[str] = deque()
        self._names = count(1)
        self._counted: deque[tuple[float, int]] = deque([(clock(), feed.shown)])
        self._closing = False
        self._next_tick = ""
        self._failure: BaseException | None = None
        apply_look(root)
        root.title(shown(f"{feed.name}: {feed.queue}"))
        root.report_callback_exception = self._broke
        root.protocol("WM_DELETE_WINDOW", self.close)
        self._build_head()
        self._build_foot()
        self._build_middle()
        self._bind_keys()
        self._choose_nothing()
        self._refresh()

    def run(self) -> None:
        """Show the window until it is closed or the process is told to end."""
        with _heard(self.close):
            self.root.deiconify()
            self._next_tick = self.root.after(0, self._tick)
            self.root.mainloop()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Close the window at the next tick; what is in it counts as shown."""
        self._closing = True

    def toggle_pause(self) -> None:
        """Stop taking messages, or resume; the prefetch bounds what the broker still sends."""
        self.paused = not self.paused
        self.pause_button.configure(text="Resume" if self.paused else "Pause")
        self._refresh()

    def clear(self) -> None:
        """Empty the table; the counter goes on."""
        self.table.delete(*self._order)
        self._order.clear()
        self._messages.clear()
        self.following = True
        self._choose_nothing()
        self._refresh()

    def follow(self) -> None:
        """Scroll to the newest message, and keep the newest in sight."""
        self.table.yview_moveto(1.0)
        self.following = True
        self._refresh()

    # --- how it is built -----------------------------------------------------------------------

    def _build_head(self) -> None:
        head = ttk.Frame(self.root, padding=(16, 12, 16, 10))
        head.pack(side="top", fill="x")
        head.columnconfigure(1, weight=1)
        title = ttk.Label(head, text=shown(self.feed.queue), style="Title.TLabel")
        title.grid(row=0, column=0, columnspan=2, sticky="w")
        buttons = ttk.Frame(head)
        buttons.grid(row=0, column=2, sticky="e")
        self.pause_button = self._button(buttons, "Pause", self.toggle_pause)
        self.clear_button = self._button(buttons, "Clear", self.clear)
        self.follow_button = self._button(buttons, "Follow", self.follow)
        self.dot = ttk.Label(head, text="●")
        self.dot.grid(row=1, column=0, sticky="w", padx=(0, 6), pady=(6, 0))
        # Width 1, and stretched: a long reason must not widen the window.
        self.state_label = ttk.Label(head, style="Muted.TLabel", width=1)
        self.state_label.grid(row=1, column=1, sticky="we", pady=(6, 0))
        self.counter = ttk.Label(head, anchor="e")
        self.counter.grid(row=1, column=2, sticky="e", padx=(12, 0), pady=(6, 0))

    def _button(self, parent: ttk.Frame, text: str, command: Callable[[], None]) -> ttk.Button:
        button = ttk.Button(parent, text=text, underline=0, command=command)
        button.pack(side="left", padx=(8, 0))
        return button

    def _build_foot(self) -> None:
        foot = ttk.Frame(self.root, padding=(16, 6))
        foot.pack(side="bottom", fill="x")
        ttk.Label(foot, text=_NOTE, style="Small.TLabel").pack(side="left")
        self.hint = ttk.Label(foot, style="Small.TLabel", anchor="e")
        self.hint.pack(side="right")

    def _build_middle(self) -> None:
        panes = ttk.Panedwindow(self.root, orient="vertical")
        panes.pack(side="top", fill="both", expand=True, padx=16)
        upper, lower = ttk.Frame(panes), ttk.Frame(panes)
        panes.add(upper, weight=3)
        panes.add(lower, weight=2)

        self.table = ttk.Treeview(
            upper, columns=list(_COLUMNS), show="headings", height=13, selectmode="browse"
        )
        measure = font.nametofont("TkDefaultFont").measure
        for name, heading in _COLUMNS.items():
            width = measure(_WIDTHS[name]) + 24
            self.table.heading(name, text=heading, anchor="w")
            self.table.column(name, width=width, minwidth=60, anchor="w", stretch=name == "text")
        bar = ttk.Scrollbar(upper, command=self._scroll)
        self.table.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        self.table.pack(side="left", fill="both", expand=True)
        self.table.bind("<<TreeviewSelect>>", self._choose)
        for event in ("<MouseWheel>", "<Button-4>", "<Button-5>", "<Key>"):
            self.table.bind(event, lambda _: self.root.after_idle(self._scrolled))
        self.table.bind("<Configure>", lambda _: self._keep_following())

        sides = ttk.Panedwindow(lower, orient="horizontal")
        sides.pack(fill="both", expand=True)
        self.about = self._page(sides)
        self.contents = self._page(sides)

    def _page(self, sides: ttk.Panedwindow) -> tk.Text:
        """Make a read-only text with a scrollbar."""
        frame = ttk.Frame(sides)
        sides.add(frame, weight=1)
        page = tk.Text(frame, height=15, width=1, state="disabled", wrap="char")
        style_page(page)
        bar = ttk.Scrollbar(frame, command=page.yview)
        page.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        page.pack(side="left", fill="both", expand=True)
        return page

    def _bind_keys(self) -> None:
        for keys, act in (
            ("pP", self.toggle_pause),
            ("cC", self.clear),
            ("fF", self.follow),
        ):
            for key in keys:
                self.root.bind(f"<KeyPress-{key}>", _unless_modified(act))
        for sequence in ("<Control-q>", "<Control-w>"):
            self.root.bind(sequence, lambda _: self.close())
        self.root.bind("<End>", lambda _: self.follow())

    # --- what happens --------------------------------------------------------------------------

    def _tick(self) -> None:
        """Take what came and draw it; only then does it count as shown."""
        if self._closing:
            self.root.destroy()
            return
        wait_ms = _TICK_MS
        batch = None if self.paused else self.feed.next_batch(_BATCH)
        if batch is not None:
            self._show(batch.messages)
            self.root.update_idletasks()  # where Tk draws
            self.feed.mark_shown(batch)
            if 4 * len(batch.messages) >= min(self.feed.prefetch, _BATCH):
                wait_ms = _BUSY_TICK_MS
        self._refresh()
        self._next_tick = self.root.after(wait_ms, self._tick)

    def _show(self, messages: list[Received]) -> None:
        """Append the last ``keep`` of them, and remove as many old ones."""
        new = messages[-self.keep :]
        lines = len(self._order)
        surplus = max(0, lines + len(new) - self.keep)
        top = round(self.table.yview()[0] * lines)  # the first line in sight
        old = [self._order.popleft() for _ in range(surplus)]
        if old:
            self.table.delete(*old)
            for name in old:
                del self._messages[name]
        rows: list[str | Row] = []
        for message in new:
            name = str(next(self._names))
            rows += name, row(message)
            self._order.append(name)
            self._messages[name] = message
        self.root.tk.call("apply", _APPEND, str(self.table), tuple(rows))
        self._keep_following()
        if old and not self.following:
            self.table.yview_moveto(max(0, top - surplus) / len(self._order))

    def _choose(self, _: object) -> None:
        chosen = self.table.selection()
        if not chosen:
            return  # it left the table: its details stay
        message = self._messages[chosen[0]]
        _write(self.about, about(message))
        _write(self.contents, contents(message))

    def _choose_nothing(self) -> None:
        _write(self.about, [Part("note", _HINT)])
        _write(self.contents, [])

    def _scroll(self, *arguments: Any) -> None:
        self.table.yview(*arguments)
        self._scrolled()

    def _scrolled(self) -> None:
        """Follow the newest while the end is in sight."""
        self.following = self.table.yview()[1] >= 1.0
        self._refresh()

    def _keep_following(self) -> None:
        if self.following:
            self.table.yview_moveto(1.0)

    def _refresh(self) -> None:
        """Update the labels."""
        state, feed = self.feed.state, self.feed
        text = _state_text(state, str(feed.endpoint))
        colour = _COLOURS.get(state.activity, AMBER)
        if self.paused and state.activity is Activity.CONSUMING:
            held = counted(feed.waiting, "message is", "messages are", form=",")
            text = f"Paused: {held} held, not acknowledged"
            colour = AMBER
        _set(self.dot, foreground=colour)
        _set(self.state_label, text=shown(text))
        _set(
            self.counter,
            text=f"{feed.shown:,} received · {self._rate():,.0f}/s · keeps the last {self.keep:,}",
        )
        _set(self.hint, text="" if self.following else "New messages come below: F follows them")
        self.follow_button.state(["disabled" if self.following else "!disabled"])

    def _rate(self) -> float:
        """Return messages a second, over the last two seconds."""
        now, counted = self._clock(), self._counted
        counted.append((now, self.feed.shown))
        while len(counted) > 2 and counted[0][0] < now - _RATE_OVER_S:
            counted.popleft()
        since, before = counted[0]
        return (self.feed.shown - before) / (now - since) if now > since else 0.0

    def _broke(
        self, _: type[BaseException], error: BaseException, _tb: TracebackType | None
    ) -> None:
        """End the window on a defect of ours, instead of going on with half of it."""
        self._failure = error
        self.root.after_cancel(self._next_tick)
        self.root.destroy()


def _state_text(state: State, endpoint: str) -> str:
    since = clock_text(state.since_s)
    match state.activity:
        case Activity.CONNECTING:
            return f"Connecting to {endpoint}"
        case Activity.CONSUMING:
            return f"Connected to {endpoint}"
        case Activity.RECONNECTING:
            return f"Reconnecting since {since}: {state.why}"
        case Activity.NO_QUEUE:
            return f"The queue is not there since {since}: {state.why}"
        case Activity.ENDED:
            return f"Ended at {since}: {state.why}"


def _set(label: ttk.Label, **options: str) -> None:
    """Set options of a label that differ: to draw it again costs time."""
    for name, value in options.items():
        if str(label.cget(name)) != value:
            label.configure({name: value})


def _write(page: tk.Text, parts: list[Part]) -> None:
    """Replace what is on a page."""
    page.configure(state="normal")
    page.delete("1.0", "end")
    for kind, text in parts:
        page.insert("end", text + ("\t" if kind == "label" else "\n"), kind)
    page.configure(state="disabled")


def _unless_modified(act: Callable[[], None]) -> Callable[[tk.Event[tk.Misc]], None]:
    """Act on the bare key only: Control-C copies, and does not clear."""

    def on_key(event: tk.Event[tk.Misc]) -> None:
        if not int(event.state) & 0x0C:  # Control, and Alt or Command
            act()

    return on_key


@contextmanager
def _heard(act: Callable[[], None]) -> Iterator[None]:
    """Close the window on a signal. Python runs the handlers between two ticks of Tk."""
    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
