"""What limits in Redis cost a request, and what more gateways bring."""
