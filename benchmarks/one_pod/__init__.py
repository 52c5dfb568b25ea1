"""The gateway of the one-pod form, in the limits that its manifest sets."""
