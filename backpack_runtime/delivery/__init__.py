"""The way from the session to the consumers: bounded queues, each with a policy for a consumer that is slow."""

from __future__ import annotations

from .policy import DeliverySnapshot, SlowConsumer
from .queue import PLAIN, Delivery
from .streams import EventStream, Outlets, ended_by

__all__ = ["PLAIN", "Delivery", "DeliverySnapshot", "EventStream", "Outlets", "SlowConsumer", "ended_by"]
