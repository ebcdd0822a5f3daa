"""``rmqbench cleanup``: list queues and exchanges, ask, and delete them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from rmqbench.cli.commands import Command, new_app
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.output import let_go_of_stdout, say, write_out
from rmqbench.errors import RmqbenchError, UsageError
from rmqbench.text import counted, visible_line

if TYPE_CHECKING:
    from rmqbench.cleanup import Candidate, CleanupPlan, Deletion

__all__ = ["app"]

app = new_app()

_SOMETHING_STAYS = RmqbenchError.exit_code


@app.command(cls=Command)
@with_options(ConnectionOptions)
def cleanup(
    connection: ConnectionOptions,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT",
            show_default=False,
            help="all, exchanges, or names of queues, also separated by commas.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="A queue by its exact name, even 'all' or 'exchanges'; may be repeated.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    yes_really: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            show_default=False,
            help="Like --yes, and required for 'all' if the broker is not on this machine: repeat "
            "its host here.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was deleted and kept as a JSON object.")
    ] = False,
) -> None:
    """List queues and exchanges, ask, and delete them with everything in them.

    'all' is every queue and every exchange of the virtual host except the
    built-in ones; 'exchanges' is those that no binding, queue, policy or other
    exchange uses. Both need the Management API; names of queues do not.

    Only what was listed is deleted. What appears in the meantime stays, and so
    does a queue that was empty and unused and no longer is.

    Exit codes: 0 everything listed is gone; 2 wrong usage, or a queue does not
    exist (then nothing is deleted); 3 something was kept (it is named, with
    the reason), or the answer was no; 4 no broker.

    Example: rmqbench cleanup work.queue audit.queue --dry-run
    """
    from rmqbench.cleanup import Deletion, find, require_named, scope

    words, exact = tuple(what or ()), tuple(queue or ())
    wanted = scope(words, exact)
    endpoint = connection.endpoint()
    if not dry_run or yes_really is not None:
        require_named(endpoint, wanted, yes_really)
    asks = not (dry_run or yes or yes_really is not None)
    terminal = _terminal(as_json) if asks else None
    plan = find(endpoint, words, exact)
    _show(_listed(plan), terminal or (sys.stderr if as_json else sys.stdout))
    if dry_run:
        deletions = [Deletion(each, "deleted") for each in plan.to_delete]
        deletions += [Deletion(each, "kept", each.obstacle) for each in plan.to_keep]
        _end(plan, deletions, as_json, dry_run=True)
    elif terminal is not None and plan.to_delete and not _agreed(plan, terminal):
        say("Nothing was deleted.")
        deletions = [
            Deletion(each, "kept", each.obstacle or "the answer was no") for each in plan.candidates
        ]
        if as_json:
            _end(plan, deletions, as_json)
        raise typer.Exit(_SOMETHING_STAYS)
    else:
        _delete(plan, as_json)


def _delete(plan: CleanupPlan, as_json: bool) -> None:
    """Delete, and report what became of each, even when interrupted."""
    from rmqbench.cleanup import delete

    deletions: list[Deletion] = []
    try:
        for deletion in delete(plan):
            deletions.append(deletion)  # one by one, so that an interruption finds what is done
    except BaseException:
        say(f"Ended early: {_summary(deletions)}")
        raise
    listed = set(plan.to_keep)
    for deletion in deletions:
        if deletion.status == "gone":
            say(visible_line(f"Gone already: {deletion.candidate}"))
        elif deletion.status == "kept" and deletion.candidate not in listed:
            say(visible_line(f"Kept: {deletion.candidate}: {deletion.reason}"))
    _end(plan, deletions, as_json)
    if any(deletion.status == "kept" for deletion in deletions):
        raise typer.Exit(_SOMETHING_STAYS)


# --- asking ------------------------------------------------------------------------------------


def _terminal(as_json: bool) -> TextIO:
    """Return where a person can be asked, or raise UsageError."""
    if _is_terminal(sys.stdin):
        for stream in (sys.stderr,) if as_json else (sys.stdout, sys.stderr):
            if _is_terminal(stream):
                return stream
    raise UsageError(
        "There is no terminal to ask at; nothing was deleted.",
        "Use --yes to delete without being asked, or --dry-run to only look.",
    )


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _agreed(plan: CleanupPlan, terminal: TextIO) -> bool:
    """Ask; the end of the input is a no, and Ctrl-C ends the program."""
    these = "this" if len(plan.to_delete) == 1 else "these"
    numbers = " and ".join(_numbers(plan.to_delete)).removeprefix("1 " if these == "this" else "")
    question = f"Delete {these} {numbers} of {_place(plan)}? [y/N] "
    while True:
        terminal.write(visible_line(question))
        terminal.flush()
        answer = sys.stdin.readline()
        if answer.strip().lower() in ("y", "yes"):
            return True
        if not answer.endswith("\n"):
            terminal.write("\n")
            return False
        if answer.strip().lower() in ("", "n", "no"):
            return False


# --- output ------------------------------------------------------------------------------------


def _listed(plan: CleanupPlan) -> str:
    """Return the list; what is not idle comes last, next to the question."""
    lines = []
    if plan.to_delete:
        lines.append(f"To be deleted from {_place(plan)}:")
        lines += [_line(each) for each in sorted(plan.to_delete, key=lambda each: not each.is_idle)]
    else:
        lines.append(f"There is nothing to delete in {_place(plan)}.")
    if plan.to_keep:
        lines.append("Kept:")
        lines += [f"  {each}: {each.obstacle}" for each in plan.to_keep]
    busy = sum(not each.is_idle for each in plan.to_delete)
    if busy:
        lines.append(
            f"! {busy:,} {'queue holds' if busy == 1 else 'queues hold'} messages or "
            f"{'has' if busy == 1 else 'have'} consumers, which go with the queue."
        )
    lines += plan.notes
    return "".join(f"{visible_line(line)}\n" for line in lines)


def _line(each: Candidate) -> str:
    if each.kind == "exchange":
        return f"  {each} ({each.type})"
    counts = [
        f"{'?' if count is None else f'{count:,}'} {what}"
        for count, what in (
            (each.ready, "ready"),
            (each.unacknowledged, "unacknowledged"),
            (each.consumers, "consumer" if each.consumers == 1 else "consumers"),
        )
    ]
    marks = ["A STREAM"] if each.type == "stream" else []
    marks += ["HOLDS MESSAGES"] if each.ready or each.unacknowledged else []
    marks += ["IS CONSUMED"] if each.consumers else []
    mark = f"  <-- {', '.join(marks)}" if marks else ""
    return f"{'!' if marks else ' '} {each}: {', '.join(counts)}{mark}"


def _place(plan: CleanupPlan) -> str:
    return f"virtual host {plan.endpoint.virtual_host!r} at {plan.endpoint.address}"


def _numbers(things: Iterable[Candidate]) -> list[str]:
    kinds = [each.kind for each in things]
    counts = {kind: kinds.count(kind) for kind in ("queue", "exchange")}
    return [counted(n, kind, form=",") for kind, n in counts.items() if n]


def _summary(deletions: Sequence[Deletion], dry_run: bool = False) -> str:
    numbers = _numbers(deletion.candidate for deletion in deletions if deletion.status == "deleted")
    text = f"{'would delete' if dry_run else 'deleted'} {', '.join(numbers) or 'nothing'}"
    gone = sum(deletion.status == "gone" for deletion in deletions)
    kept = sum(deletion.status == "kept" for deletion in deletions)
    text += f", {gone:,} gone already" if gone else ""
    return text + (f", kept {kept:,}" if kept else "")


def _end(
    plan: CleanupPlan, deletions: Sequence[Deletion], as_json: bool, *, dry_run: bool = False
) -> None:
    """Write the last line, or the JSON object; nobody has to read it."""
    text = _summary(deletions, dry_run)
    if as_json:
        text = json.dumps(_as_dict(plan, deletions, dry_run), indent=2)
    write_out(text + "\n", _summary(deletions, dry_run))


def _as_dict(plan: CleanupPlan, deletions: Sequence[Deletion], dry_run: bool) -> dict[str, Any]:
    def of(status: str) -> list[dict[str, Any]]:
        return [_deletion_as_dict(deletion) for deletion in deletions if deletion.status == status]

    return {
        "host": plan.endpoint.host,
        "port": plan.endpoint.port,
        "virtual_host": plan.endpoint.virtual_host,
        "dry_run": dry_run,
        "deleted": of("deleted"),
        "gone": of("gone"),
        "kept": of("kept"),
        "notes": list(plan.notes),
    }


def _deletion_as_dict(deletion: Deletion) -> dict[str, Any]:
    each = deletion.candidate
    facts: dict[str, Any] = {"kind": each.kind, "name": each.name, "type": each.type}
    if each.kind == "queue":
        facts |= {
            "ready": each.ready,
            "unacknowledged": each.unacknowledged,
            "consumers": each.consumers,
        }
    return facts | ({"reason": deletion.reason} if deletion.reason else {})


def _show(text: str, stream: TextIO) -> None:
    """Write the list; raise RmqbenchError if that fails: nothing is deleted unseen."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        let_go_of_stdout()
        raise RmqbenchError(
            f"The list could not be written ({error.strerror}), so nothing was deleted.",
            "Direct it to a terminal or to a file.",
        ) from error
