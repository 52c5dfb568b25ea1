"""Looking ahead: what a stack would do, before it has to."""
