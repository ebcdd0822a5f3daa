"""How a queue is found to be empty."""

from support.mutations.change import checks

drain = checks("runner.drain", "unit/runner/test_drain.py")
received = checks("runner.received", "unit/runner/test_received.py")
emptiness = checks("runner.emptiness", "unit/runner/test_emptiness.py")
inspection = checks("runner.inspection", "unit/runner/test_inspection.py")
watching = checks("runner.watch", "unit/runner/test_watch.py")
disturbance = checks("faults.disturbance", "unit/faults/test_disturbance.py")

DRAINED = [
    received(
        "what two consumers received counts once",
        "        if len(self._ledgers) == 1:\n",
        "        if True:\n",
        "test_of_several_only_the_blocks_are_looked_at_in_which_something_is_new",
    ),
    received(
        "what is received is watched at the cost of what is new",
        "np.flatnonzero(changed)",
        "np.arange(len(changed))",
        "test_of_several_only_the_blocks_are_looked_at_in_which_something_is_new",
    ),
    received(
        "what a killed consumer had not counted",
        "        for block in range(len(counts)):\n",
        "        for block in ():\n",
        "test_what_a_killed_consumer_recorded_and_had_not_counted_is_counted_in_the_end[1]",
    ),
    emptiness(
        "the answer holds still",
        "still_since + patience.still_s, ",
        "0.0, ",
        "test_a_ready_message_that_shows_late_is_no_proof",
    ),
    emptiness(
        "no answer is believed too early",
        "still_s, certain_at, ",
        "still_s, ",
        "test_no_answer_is_believed_before_it_can_be_certain",
    ),
    emptiness(
        "consumers that are not ours",
        "        if answer.others:\n            who",
        "        if False:\n            who",
        "test_somebody_else_s_consumer_is_no_proof",
    ),
    emptiness(
        "zeros that nobody stands behind",
        "replace(answer, ready=self._get())",
        "answer",
        "test_a_queue_whose_leader_is_silent_is_no_proof_though_its_figures_are_zeros",
    ),
    emptiness(
        "a queue that could not be asked may have been restarted",
        "max(certain_at, now + RECOVERY_S)",
        "certain_at",
        "test_a_queue_that_could_not_be_asked_may_have_been_restarted_and_is_not_believed_at_once",
    ),
    emptiness(
        "what a half-open channel may hold",
        "max(self._all_back_at, self",
        "max(0.0, self",
        "test_what_a_half_open_channel_may_hold_is_waited_for_in_each_proof_until_it_is_back",
    ),
    emptiness(
        "a get without an answer",
        "        self.may_hold_one = True\n",
        "",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[get]",
    ),
    emptiness(
        "a return that may not have come",
        "        self._connection.close_channel(self._channel, _ANSWER_S)\n",
        "",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[return]",
    ),
    drain(
        "a cancelled consumer whose channel did not end",
        "if any(_left_open(each, ConsumerLeaving) for each in self._round):",
        "if False:",
        "test_what_a_cancelled_consumer_may_hold_on_a_half_open_channel_is_waited_for[how3-True]",
    ),
    drain(
        "a consumer that broke off is counted",
        "            self._prover.expect_back(self._ended_at, counted=True)\n",
        "            pass\n",
        "test_what_a_busy_leader_may_leave_out_is_waited_for_where_a_channel_broke_off",
    ),
    drain(
        "what is half-open may stand before our consumers",
        "if ready and self._broke_off:",
        "if False:",
        "test_what_a_half_open_consumer_of_ours_stands_before_is_taken_once_it_is_gone",
    ),
    drain(
        "what ended before all was published is followed by another round",
        "        if self._lingers and (served or self._rounds == 1):",
        "        if False:",
        "test_what_ended_before_all_was_published_is_followed_by_another_round",
    ),
    drain(
        "a queue that answers again",
        " or may_serve",
        "",
        "test_a_queue_that_answers_only_after_a_round_gets_another",
    ),
    drain(
        "what a queue hides of what was given back",
        "min(hidden_s, _MOST_HIDDEN_S)",
        "0.0",
        "test_what_a_queue_hides_of_what_was_given_back_is_waited_for[6-5-True]",
    ),
    drain(
        "what a queue hides for too long",
        "if hides:",
        "if False:",
        "test_what_a_queue_hides_for_longer_than_anybody_waits_leaves_its_drain_open",
    ),
    drain(
        "what a proof has waited for does not count",
        "            self._came_on_at += self._monotonic() - ended_at\n",
        "            pass\n",
        "test_what_its_proof_waits_for_is_not_taken_from_a_queue_s_time",
    ),
    drain(
        "what comes back late",
        "came_back or ",
        "",
        "test_what_comes_back_after_a_consumer_found_nothing_is_taken_by_another",
    ),
    drain(
        "what a quorum queue gives back",
        " or ready < self._left",
        "",
        "test_as_long_as_less_comes_back_each_time_there_is_another_round",
    ),
    drain(
        "a message of somebody else is not looked at for nothing",
        "            return nothing_new or all(map(_ended_in_order, self._round))\n",
        "            pass\n",
        "test_a_message_of_somebody_else_is_not_looked_at_once_more_for_nothing"
        "[brought1-closed1-True-1]",
    ),
    emptiness(
        "zeros that a busy leader did not say",
        "self._consumers_gone_at if answer.slow else 0.0",
        "0.0",
        "test_a_slow_answer_may_not_know_of_it_and_is_not_believed",
    ),
    emptiness(
        "a link that breaks is made again",
        "away_until or now + away_s",
        "0.0",
        "test_a_link_that_breaks_is_made_again_however_late_it_is",
    ),
    emptiness(
        "a refused get of a leader that is busy",
        "            if self._declared_in_s < self._link_s + _SLOW_S:\n",
        "            if True:\n",
        "test_where_a_get_is_refused_and_the_declared_answer_was_slow_nothing_is_known",
    ),
    emptiness(
        "figures that a slow link may hide nothing in",
        "slow = self._declared_in_s >= _SLOW_S",
        "slow = self._declared_in_s >= self._link_s + _SLOW_S",
        "test_a_slow_answer_may_not_know_of_it_and_is_not_believed",
    ),
    emptiness(
        "a busy leader is asked for a while",
        "busy_until = busy_until or now + _BUSY_S",
        "busy_until = now",
        "test_where_a_get_is_refused_and_the_declared_answer_was_slow_nothing_is_known",
    ),
    emptiness(
        "a look whose end is unknown",
        "        self.looks += 1  # until",
        "        self.looks += 0  # until",
        "test_it_says_how_many_messages_it_may_have_been_given[said4-1]",
    ),
    emptiness(
        "a half-open consumer of ours",
        "3 * self._heartbeat_s",
        "2 * self._heartbeat_s",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[get]",
    ),
    inspection(
        "who cannot be asked for holders proves nothing",
        "        return replace(proof, proven=False, detail=why)\n",
        "        return proof\n",
        "test_where_the_api_does_not_say_it_there_is_no_proof",
    ),
    inspection(
        "what a fault of ours limits is no policy besides",
        " and each.name != limit_policy(queue.name):",
        ":",
        "test_what_a_fault_of_ours_limits_is_no_policy_besides",
    ),
    watching(
        "since when nothing was heard",
        "if connection.received_bytes != received:",
        "if True:",
        "test_what_is_not_heard_of_any_more_may_have_been_started_anew_since_then",
    ),
    drain(
        "a queue that serves no consumer",
        "elif says_empty and not served:",
        "elif False:",
        "test_a_queue_that_serves_no_consumer_to_the_end_proves_nothing",
    ),
    disturbance(
        "a restart of our own node",
        "started_at is not None and started_at > self._began_at",
        "False",
        "test_a_start_of_our_node_during_the_run_was_a_restart",
    ),
    disturbance(
        "no answer is believed soon after a restart",
        "return self.restarted_at + RECOVERY_S",
        "return 0.0",
        "test_a_queue_is_not_believed_too_soon_after_a_restart",
    ),
    disturbance(
        "a fault on another broker is none of the run",
        "injection.target.broker is self._broker and ",
        "",
        "test_a_fault_around_a_run_on_another_broker_is_none_of_it",
    ),
]
