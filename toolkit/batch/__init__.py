"""Millions of images to a table: ``toolkit batch``, on this machine or on a Ray cluster. Never imports torch."""
