"""AMQP 0-9-1: frames and their vector path, connections, the topology, and what errors mean."""
