"""What is written down, and read again."""

from support.mutations.change import checks

reading = checks("run_directory.reading", "unit/results/test_judging.py")
directory = checks("run_directory.directory", "unit/results/test_judging.py")
ledger = checks("run_directory.ledger", "unit/run_directory/test_ledger.py")
recorder = checks("run_directory.recorder", "unit/run_directory/test_recorder.py")

WITHOUT_EVIDENCE = "test_without_a_part_of_its_evidence_no_run_passes"
IN_ORDER = "test_that_it_was_delivered_is_written_last"

READ = [
    reading(
        "incidents that are not there any more",
        "len(incidents) < worker.end.incidents",
        "False",
        "test_incidents_that_are_not_there_any_more_are_missing_evidence",
    ),
    reading(
        "a journal that is not there",
        "if not journal and ledger.state.any():",
        "if False:",
        f"{WITHOUT_EVIDENCE}[gone-queue-0/consumer-0/journal.jsonl]",
    ),
    reading(
        "a ledger that cannot be read",
        'self._missing.append(f"the ledger of {whose}',
        'str(f"the ledger of {whose}',
        f"{WITHOUT_EVIDENCE}[garbage-queue-0/consumer-0/state.npy]",
    ),
    reading(
        "rows that are not there any more",
        "there < recorded",
        "False",
        "test_what_came_again_and_is_not_there_any_more_is_missing_evidence"
        "[queue-0/consumer-0/again.bin-row1-consumer 0 of work.queue recorded "
        "2 repeated deliveries, and-none]",
    ),
    directory(
        "a directory of another format",
        "if found != FORMAT:",
        "if found is None:",
        "test_a_directory_of_another_format_is_refused_with_a_sentence",
    ),
]

RECORDED = [
    recorder(
        "delivered is written last",
        "        ledger.first_ns[places] = at_ns\n",
        "        ledger.state[places] = DELIVERED\n        ledger.first_ns[places] = at_ns\n",
        f"{IN_ORDER}[sequences0]",
    ),
    recorder(
        "each delivery has a moment of its own",
        "max(now_ns, self._last_ns + 1) + np.arange(len(places))",
        "np.full(len(places), max(now_ns, self._last_ns + 1))",
        "test_each_delivery_has_a_moment_of_its_own_which_keeps_the_order",
    ),
    recorder(
        "what is sent again leaves its first send as it was",
        "            sequences = sequences[~again]\n",
        "",
        "test_what_is_sent_again_is_a_row_and_leaves_the_first_send_as_it_was",
    ),
    checks("run_directory.ledger", "unit/run_directory/test_recorder.py")(
        "a line that a crash cut off is passed over",
        '            if line.endswith(b"\\n"):\n',
        "            if True:\n",
        "test_a_line_cut_off_by_a_crash_is_passed_over",
    ),
    ledger(
        "what is written outlives its writer",
        'cls._map(directory, "r+")',
        'cls._map(directory, "c")',
        "test_what_was_recorded_outlives_a_killed_process",
    ),
]
