"""What a queue in Redis between gateway and engines costs, beside engines that the gateway reaches by itself."""
