"""The five services and the chassis that they share."""
