"""What the lane rule for long prompts gives to chat beside them."""
