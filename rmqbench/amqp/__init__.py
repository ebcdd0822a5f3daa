"""AMQP 0-9-1: frames, connections, the topology, and what its errors mean."""
