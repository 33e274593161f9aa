"""What every route gets: settings, database, storage, models, background services."""
