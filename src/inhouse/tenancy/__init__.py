"""Who pays and how they prove it: keys, tokens of an issuer, and what a role may do."""
