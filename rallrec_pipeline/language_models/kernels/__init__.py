"""How a forward pass is computed: batches, prefixes, attention, packed weights."""
