"""Who publishes and who consumes: producers, consumers, and how they go on after a fault."""
