"""The window that shows the messages of a queue: the feed, the texts, and Tk apart from both."""
