"""What the API promises, one file a theme."""
