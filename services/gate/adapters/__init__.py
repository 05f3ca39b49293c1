"""What the gate's needs are made of today."""
