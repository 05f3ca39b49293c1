"""What every service needs and none owns: config, server, calls, tokens, keys, bus, database, telemetry."""
