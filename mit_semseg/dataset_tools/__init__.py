"""Commands that work on datasets, `mit-semseg data check` and `prepare`."""
