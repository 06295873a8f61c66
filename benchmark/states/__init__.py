"""What hidden states hold: pictures by phone and speaker without training anything, and which states probes read."""
