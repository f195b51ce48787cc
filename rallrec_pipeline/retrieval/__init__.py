"""Which items of a user's history a prompt shows: item index, relevance, reranking, and their cheap proxy."""
