"""One websocket connection: opening and backing off, heartbeat, subscriptions."""
