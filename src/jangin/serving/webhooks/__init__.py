"""Webhooks: addresses that are told when jobs and batches end, by the Standard Webhooks rules."""
