"""Alembic's environment: runs the migrations on the connection that `schema.migrate` opened."""

from alembic import context

from jangin.serving.state.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a column by copying its table
)
with context.begin_transaction():
    context.run_migrations()
