"""The parts of benchmarks/fuzz.py: what an input is, how it is damaged, run and judged."""
