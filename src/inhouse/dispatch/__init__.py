"""From a parsed call to an engine and back."""
