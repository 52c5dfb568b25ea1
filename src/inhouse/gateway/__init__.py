"""The door: HTTP in, HTTP out. `server` runs it, `protocol` takes the hot endpoints, `app` all others."""
