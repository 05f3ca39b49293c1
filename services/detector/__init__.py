"""Finds whom a signal concerns: enrolled faces in pictures, watched identifiers in text."""
