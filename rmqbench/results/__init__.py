"""What came of a run: judged from its directory, with its rates and latencies."""
