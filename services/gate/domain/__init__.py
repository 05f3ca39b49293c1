"""What a gate is and what it says: definitions, statistics, measurements, outcomes. No I/O."""
