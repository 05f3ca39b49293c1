"""What the detector decides, in values and rules without I/O."""
