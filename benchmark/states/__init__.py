"""What hidden states hold, seen without training anything: pictures by phone and speaker, and which states probes read."""
