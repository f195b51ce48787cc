"""What reports are told: predictions, responses and costs, read from tables and records."""
