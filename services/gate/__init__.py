"""May this release go out? Reads log records alone; knows nobody."""
