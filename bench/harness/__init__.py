"""What the parts of the benchmark share: starting programs, loading them, judging figures."""
