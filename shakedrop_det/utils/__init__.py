"""Utilities for all packages: files, output folders, error messages."""
