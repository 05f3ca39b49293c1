"""RPC in, RPC out: translates, decides nothing."""
