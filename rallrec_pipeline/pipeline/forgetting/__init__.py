"""Forgetting a user: what holds one, what is removed, the certificate, and the search for what is left."""
