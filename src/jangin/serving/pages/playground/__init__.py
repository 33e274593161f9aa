"""The playground: talk to one to three models side by side."""
