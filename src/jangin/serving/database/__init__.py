"""The tables of the server, connections to SQLite and PostgreSQL, migrations, leases of rows."""
