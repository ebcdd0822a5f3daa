"""What several tests share: builders of plans and evidence, stand-ins for brokers and links."""
