"""Rules of the judge that simulated histories alone must miss, when one is off."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A rule of the judge, and how it is switched off; ``original`` stands once in the source."""

    module: str
    name: str
    original: str
    mutated: str


RULES = [
    Rule(f"rmqbench.verdict.{module}", name, original, mutated)
    for module, name, original, mutated in (
        ("rules", "lost", "count=found.count - removed", "count=0"),
        ("rules", "removed", "count=removed, detail=causes", "count=0, detail=causes"),
        (
            "rules",
            "nothing is lost before the drain is proven",
            "return all(each.drained for each in (self._queue, *self._queue.dead_letters))",
            "return all(each.complete for each in (self._queue, *self._queue.dead_letters))",
        ),
        (
            "rules",
            "a failing finding outranks inconclusive",
            "    if failing:\n",
            "    if failing and not open_questions:\n",
        ),
        (
            "rules",
            "a queue that was not drained is inconclusive",
            "            if not q.drain.proven\n",
            "            if False\n",
        ),
        ("rules", "vanished", "indeterminate & ~came", "indeterminate & came"),
        (
            "rules",
            "survived",
            "indeterminate & came)",
            "indeterminate & came & False)",
        ),
        ("rules", "nacked but delivered", "nacked & came)", "nacked & came & False)"),
        (
            "rules",
            "misrouted",
            "        yield self._reported(FindingName.MISROUTED)\n",
            "        pass\n",
        ),
        (
            "rules",
            "foreign",
            "        yield self._reported(FindingName.FOREIGN)\n",
            "",
        ),
        (
            "rules",
            "corrupted",
            "yield self._reported(FindingName.CORRUPTED, self._altered_in_order())",
            "yield self._reported(FindingName.FOREIGN, [])",
        ),
        (
            "rules",
            "corrupted: the send time",
            "        self._altered += deliveries.altered_send_times()\n",
            "",
        ),
        (
            "rules",
            "phantom",
            "yield _add(self._reported(FindingName.PHANTOM), phantoms)",
            "yield phantoms",
        ),
        (
            "rules",
            "what comes on the next channel again is told once",
            "            left[each] = max(left[each], count)\n",
            "            left[each] += count\n",
        ),
        (
            "rules",
            "contradicted",
            "if incident.finding is FindingName.CONTRADICTED",
            "if False",
        ),
        ("rules", "returned", "returned = state & RETURNED != 0", "returned = state & 0 != 0"),
        (
            "rules",
            "nacked",
            "nacked = (state & NACKED != 0) & ~returned",
            "nacked = (state & 0 != 0) & ~returned",
        ),
        (
            "rules",
            "indeterminate",
            "sent & ~returned & ~nacked & ~confirmed",
            "sent & returned & ~nacked & ~confirmed",
        ),
        (
            "rules",
            "unsent",
            "FindingName.UNSENT: ~sent & ",
            "FindingName.UNSENT: sent & ~sent & ",
        ),
        (
            "order",
            "order is that of an only consumer",
            "judged = queue.only_consumer and ",
            "judged = ",
        ),
        (
            "rules",
            "a restart excuses",
            "deliveries.after_ack(self._evidence.restarts)",
            "deliveries.after_ack(())",
        ),
        ("order", "reordered", "self.earliest_ns[1:] < self.at_ns", "self.earliest_ns[1:] < -1"),
        (
            "order",
            "a copy is in the order of its own channel",
            "        channel = _channels_of_copies(sends, place, stamp, channel)\n",
            "        pass\n",
        ),
        (
            "deliveries",
            "duplicate",
            "return self._sum_of_copies(self._duplicates_of_copies)",
            "return self._sum_of_copies(0 * self._duplicates_of_copies)",
        ),
        (
            "deliveries",
            "redelivered",
            "self._sum_of_copies(lengths - 1 - self._duplicates_of_copies)",
            "self._sum_of_copies(lengths - lengths)",
        ),
        (
            "deliveries",
            "a copy is told from another",
            "np.where(self._sends.copied[place], stamp.astype(np.int64), 0)",
            "np.where(self._sends.copied[place], 0, 0)",
        ),
        (
            "deliveries",
            "a stamp may be a later copy's",
            "        if len(self.copy_place):\n",
            "        if False:\n",
        ),
        (
            "deliveries",
            "one unflagged delivery is none too many",
            "np.maximum(unflagged - 1, surely)",
            "np.maximum(unflagged, surely)",
        ),
        (
            "deliveries",
            "repeated",
            "self.repeats.flagged & self._again_on_channel",
            "self.repeats.flagged & False",
        ),
        (
            "deliveries",
            "repeated on the same channel only",
            "table.again_within(table.channel) & (table.channel > 0)",
            "table.again_within() & (table.channel > 0)",
        ),
        (
            "deliveries",
            "redelivered after ack, on a later channel",
            "later = table.opened_ns >= taken_ns",
            "later = table.opened_ns < -1",
        ),
        (
            "deliveries",
            "redelivered after ack, between clean channels",
            "after = later | other",
            "after = later",
        ),
        (
            "deliveries",
            "a quorum queue's closing takes no acknowledgement",
            "        if self._close_takes_acks:\n",
            "        if True:\n",
        ),
        (
            "deliveries",
            "redelivered after ack, where none is needed",
            "others[-1] = at_ns  #",
            "pass  #",
        ),
        (
            "deliveries",
            "what is reported as corrupted is told once",
            "(consumer.state & (DELIVERED | REPORTED) == DELIVERED)",
            "(consumer.state & DELIVERED == DELIVERED)",
        ),
        ("removals", "max-length", "max(0, known.arrived - fitting)", "0"),
        ("removals", "max-length-bytes", "value // max(1, known.largest_bytes)", "known.arrived"),
        ("removals", "message-ttl", "known.emptied_ns - value * 1_000_000", "0"),
        ("removals", "expires", "return None if known.there else Removal(cause)", "return None"),
        (
            "removals",
            "delivery-limit",
            "often = known.given_back + known.looks + known.requeuers > limit",
            "often = True",
        ),
    )
]
