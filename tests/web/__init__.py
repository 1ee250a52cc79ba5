"""What the dashboard does, in a real browser."""
