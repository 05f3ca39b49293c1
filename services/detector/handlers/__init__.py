"""What the detector does, one use case after the other."""
