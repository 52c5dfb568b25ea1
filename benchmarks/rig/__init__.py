"""What the benches share: a mock engine and a load client in C, child processes, figures and tables."""
