"""Alembic's scripts, shipped as package data and run by gallery.migrate."""
