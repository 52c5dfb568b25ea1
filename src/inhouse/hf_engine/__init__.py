"""The engine `transformers`: a small server of our own on Hugging Face's library, a program of its own."""
