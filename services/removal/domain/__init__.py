"""What removal knows without asking anybody: states, addresses, policies, who may file. No I/O."""
