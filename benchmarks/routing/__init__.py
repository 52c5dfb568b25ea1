"""What the routing policies make of the same work, on simulated replicas."""
