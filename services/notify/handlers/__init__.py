"""What notify does: tells, hands over, sends again, falls back, gives up, forgets."""
