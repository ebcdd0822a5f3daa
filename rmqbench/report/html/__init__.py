"""A report as one page, which needs nothing but a browser."""
