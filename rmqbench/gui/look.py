"""How the window looks: colours, fonts and distances."""

from __future__ import annotations

import tkinter as tk
from tkinter import font, ttk
from typing import Any

__all__ = ["AMBER", "GREEN", "RED", "apply_look", "style_page"]

GREEN = "#2e8b57"
AMBER = "#b7791f"
RED = "#c0392b"

_GROUND = "#f5f6f8"
_PAPER = "#ffffff"
_INK = "#1f2933"
_MUTED = "#616e7c"
_LINE = "#d5dae1"
_HOVER = "#e9edf2"
_CHOSEN = "#d9e6fb"


def apply_look(root: tk.Tk) -> None:
    """Set theme, fonts and colours; under Windows and macOS the system's own theme stays."""
    style = ttk.Style(root)
    text = font.nametofont("TkDefaultFont", root)
    family, size = text.actual("family"), abs(int(text.actual("size")))
    if root.tk.call("tk", "windowingsystem") == "x11":
        style.theme_use("clam")
        _restyle_clam(style, (family, size - 1))
    style.configure("Treeview", rowheight=text.metrics("linespace") + 8)
    style.configure("Title.TLabel", font=(family, size + 5, "bold"))
    style.configure("Small.TLabel", font=(family, size - 1), foreground=_MUTED)
    style.configure("Muted.TLabel", foreground=_MUTED)
    root.configure(background=style.lookup("TFrame", "background"))
    root.geometry("1000x720")
    root.minsize(640, 400)


def _restyle_clam(style: ttk.Style, small: tuple[str, int]) -> None:
    style.configure(
        ".",
        background=_GROUND,
        foreground=_INK,
        bordercolor=_LINE,
        lightcolor=_GROUND,
        darkcolor=_GROUND,
        troughcolor=_GROUND,
        focuscolor=_LINE,
    )
    style.configure("TButton", padding=(14, 5), background=_PAPER, lightcolor=_PAPER)
    style.map(
        "TButton",
        background=[("disabled", _GROUND), ("pressed", _LINE), ("active", _HOVER)],
        lightcolor=[("disabled", _GROUND), ("pressed", _LINE), ("active", _HOVER)],
        darkcolor=[("pressed", _LINE)],
        foreground=[("disabled", "#9aa5b1")],
    )
    style.configure(
        "Treeview", background=_PAPER, fieldbackground=_PAPER, bordercolor=_LINE, lightcolor=_PAPER
    )
    style.map("Treeview", background=[("selected", _CHOSEN)], foreground=[("selected", _INK)])
    style.configure(
        "Treeview.Heading",
        background=_GROUND,
        foreground=_MUTED,
        font=small,
        relief="flat",
        padding=(2, 5),
    )
    style.map("Treeview.Heading", background=[("active", _GROUND)])
    trough: Any = {"sticky": "ns", "children": [("Vertical.Scrollbar.thumb", {"sticky": "nswe"})]}
    style.layout("Vertical.TScrollbar", [("Vertical.Scrollbar.trough", trough)])  # without arrows
    style.configure(
        "Vertical.TScrollbar",
        gripcount=0,
        arrowsize=11,
        background=_LINE,
        bordercolor=_GROUND,
        lightcolor=_LINE,
        darkcolor=_LINE,
    )
    style.map(
        "Vertical.TScrollbar",
        background=[("disabled", _GROUND), ("active", _MUTED)],
        lightcolor=[("disabled", _GROUND)],
        darkcolor=[("disabled", _GROUND)],
    )
    style.configure("Sash", sashthickness=8, gripcount=0)


def style_page(page: tk.Text) -> None:
    """Set the looks of each kind of :class:`rmqbench.gui.rows.Part`."""
    text = font.nametofont("TkDefaultFont", page)
    family, size = text.actual("family"), abs(int(text.actual("size")))
    stop = text.measure("m" * 10)
    page.configure(
        font="TkDefaultFont",
        background=_PAPER,
        foreground=_INK,
        selectbackground=_CHOSEN,
        selectforeground=_INK,
        inactiveselectbackground=_CHOSEN,
        relief="flat",
        borderwidth=0,
        highlightthickness=1,
        highlightbackground=_LINE,
        highlightcolor=_LINE,
        padx=10,
        pady=4,
        tabs=(stop,),
        cursor="arrow",
    )
    page.tag_configure("heading", font=(family, size, "bold"), spacing1=10, spacing3=4)
    page.tag_configure("label", foreground=_MUTED, lmargin2=stop, spacing1=1, spacing3=1)
    page.tag_configure("value", lmargin2=stop, spacing1=1, spacing3=1)
    page.tag_configure("note", foreground=_MUTED, spacing1=2, spacing3=2)
    page.tag_configure("text", font="TkFixedFont", spacing1=6)
    page.tag_configure("dump", font="TkFixedFont", spacing1=2)
