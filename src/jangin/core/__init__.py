"""Floor 1: records, errors, configuration, digests, tables, the store, the ledger, chat models."""
