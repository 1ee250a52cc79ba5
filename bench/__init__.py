"""The benchmark: bench/run starts it, bench/README.md tells what it measures."""
