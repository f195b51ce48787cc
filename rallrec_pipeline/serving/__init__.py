"""Answers over HTTP, one request at a time, from what is in force: the same as the batch gives."""
