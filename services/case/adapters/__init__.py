"""What the needs of `case` are made of today: SQL, the detector's RPC, ZIP."""
