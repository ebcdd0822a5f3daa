"""Which evidence is clean and may be let go."""

from support.mutations.change import checks

of_parts = checks("verdict.parts", "unit/verdict/test_clean.py")
clean = checks("verdict.clean", "unit/verdict/test_clean.py")
let_go = checks("run_directory.recorder", "unit/run_directory/test_let_go.py")
ledger = checks("run_directory.ledger", "unit/run_directory/test_ledger.py")

LET_GO = [
    clean(
        "what is let go was confirmed",
        "bool((producer.state == SENT | CONFIRMED).all())",
        "True",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[nacked]",
    ),
    clean(
        "what is let go was sent once",
        "        and not len(producer.copies)\n",
        "",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[sent again]",
    ),
    clean(
        "what is let go was published on one channel",
        "        and not any(part.first < each < part.first + len(part) for each in begun)\n",
        "",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[on two channels]",
    ),
    clean(
        "what is let go was delivered",
        "not deliveries.delivered.all() or ",
        "",
        "test_what_was_not_delivered_just_once_is_not_clean[not delivered]",
    ),
    clean(
        "what is let go was delivered once",
        " or deliveries.any_repeated:",
        ":",
        "test_what_was_not_delivered_just_once_is_not_clean[duplicate]",
    ),
    clean(
        "what is let go was acknowledged",
        "consumer.state[there] | REDELIVERED == DELIVERED | REDELIVERED | ACKED",
        "consumer.state[there] | REDELIVERED | ACKED == DELIVERED | REDELIVERED | ACKED",
        "test_what_was_not_acknowledged_is_not_clean",
    ),
    clean(
        "what is let go came in order",
        "piece_of(late.sequence).tolist()",
        "(-1 - late.sequence).tolist()",
        "test_what_came_in_another_order_is_not_clean_where_order_is_judged",
    ),
    clean(
        "of what is let go nothing was reported",
        "each.producer is not None and each.sequence is not None",
        "False",
        "test_what_was_not_delivered_just_once_is_not_clean[an incident]",
    ),
    of_parts(
        "what comes again of what was let go",
        "later = np.flatnonzero((state & DELIVERED != 0) & (first_ns > last_ns))",
        "later = np.zeros(0, np.int64)",
        "test_what_comes_again_where_nobody_knows_who_had_it_counts_all_the_same",
    ),
    of_parts(
        "rows that nobody freed are no deliveries",
        " & (first_ns > last_ns))",
        ")",
        "test_rows_that_nobody_freed_count_once",
    ),
    of_parts(
        "rows of what came again before it was let go",
        "np.concatenate([again, consumer.again])",
        "np.concatenate([again, consumer.again[consumer.again['at_ns'] > last_ns]])",
        "test_what_came_again_while_the_last_of_its_segment_came_counts",
    ),
    of_parts(
        "a flag that the first may have had",
        '    if row["flagged"]:\n        taken |= REDELIVERED\n',
        "",
        "test_without_the_flag_once_more_is_none_too_many_where_the_first_may_have_had_it",
    ),
    let_go(
        "nobody frees what has changed",
        'return int(self.ledger.first_ns[these].max()) <= int(segment["last_ns"])',
        "return True",
        "test_a_consumer_keeps_what_has_changed_since_it_was_judged",
    ),
    let_go(
        "what was let go is not sent again",
        "unknown &= ~self.ledger.let_go.among(0, sent)",
        "pass",
        "test_a_producer_frees_what_was_let_go_and_forgets_nothing_that_counts",
    ),
]
