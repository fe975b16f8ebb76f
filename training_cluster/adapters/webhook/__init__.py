"""Tells receivers outside: signed JSON, Slack messages, and what the apprise library reaches."""

from training_cluster.adapters.webhook.notifier import WebhookNotifier
from training_cluster.adapters.webhook.signing import new_secret

__all__ = ["WebhookNotifier", "new_secret"]
