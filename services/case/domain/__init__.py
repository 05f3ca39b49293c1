"""What `case` decides, as functions of values: no I/O, no generated code."""
