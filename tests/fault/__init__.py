"""What stays true when processes die, clients vanish and load is rough."""
