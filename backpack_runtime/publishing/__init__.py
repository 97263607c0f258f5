"""Publishing to NATS JetStream: publishers that stand in for each other, shards, and a consumer."""
