"""Alembic's entry point; it runs on the connection that gallery.migrate hands over, in one transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
