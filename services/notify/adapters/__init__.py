"""What notify's needs are made of today."""
