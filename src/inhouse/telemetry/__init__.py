"""What the gateway tells of itself: metrics and log lines. Never what was asked or answered, never a key."""
