"""What the routing policies make of the same work, on real processes: llama.cpp, and fake engines."""
