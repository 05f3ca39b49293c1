"""The service `case`: subscribers, incidents, evidence, review, the case log."""
