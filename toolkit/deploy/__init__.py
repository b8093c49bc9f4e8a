"""A bundle in the form that somebody else's server takes: ``toolkit deploy``. Never imports torch."""
