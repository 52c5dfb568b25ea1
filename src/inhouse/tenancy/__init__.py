"""Who pays and how they prove it: keys made, kept as hashes, checked, revoked. Limits and roles are not here yet."""
