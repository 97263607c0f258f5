"""Publishing to NATS JetStream: publishers that stand in for each other, shards, and the consumer of their messages."""
