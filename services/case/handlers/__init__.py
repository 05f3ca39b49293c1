"""The use cases of `case`: each a short function whose needs are its parameters."""
