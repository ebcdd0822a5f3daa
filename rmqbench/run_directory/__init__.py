"""The directory of a run: all that a verdict, a figure or a chart needs, written while it happens.

======================================  ============================================================
file                                    content
======================================  ============================================================
``run.json``                            what was asked for, and the version of this format
``journal.jsonl``                       what happened to the run as a whole, and when
``producer-N/*.npy``                    state, send time and settle time of each publish
``producer-N/journal.jsonl``            its channels, interruptions and end
``queue-N/consumer-M/*.npy``            deliveries, flags, acknowledgements, first time of each
``queue-N/consumer-M/incidents.jsonl``  what arrays cannot hold: foreign, corrupted, …
``queue-N/consumer-M/journal.jsonl``    its channels, interruptions and end
``*/worker.log``                        what a worker printed
``samples.jsonl``                       the broker's own figures, every second
``result.json``                         verdict and figures: computed from all of the above
======================================  ============================================================
"""

from rmqbench.run_directory.directory import FORMAT, RunDirectory

__all__ = ["FORMAT", "RunDirectory"]
