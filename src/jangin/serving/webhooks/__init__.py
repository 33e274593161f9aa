"""Webhooks: addresses that are notified when jobs and batches end, as in Standard Webhooks."""
