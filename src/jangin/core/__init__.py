"""Records, configuration, errors, store, ledger and stage protocol that everything else uses."""
