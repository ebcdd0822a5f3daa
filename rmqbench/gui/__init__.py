"""The window that shows the messages of a queue: what comes, how it reads, and Tk alone."""
