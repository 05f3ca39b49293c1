"""What the detector's needs are made of today."""
