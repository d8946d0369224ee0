"""`mit-semseg serve`: trained models over HTTP, and a page that segments what is dropped on it."""
