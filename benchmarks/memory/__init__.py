"""What llama.cpp takes of memory, against what is predicted: `python -m benchmarks.memory`."""
