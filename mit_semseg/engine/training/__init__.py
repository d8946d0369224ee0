"""The parts of a training: the state of a run, a step, number formats, validation, and what people watch."""
