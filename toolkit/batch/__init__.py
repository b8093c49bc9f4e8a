"""Millions of images to a table: ``toolkit batch``. Never imports torch."""
