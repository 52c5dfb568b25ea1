"""Our own engine on transformers: with and without batches, beside the library's own server."""
