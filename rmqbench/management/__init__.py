"""RabbitMQ's Management API: a client, its answers, and a series of samples."""
