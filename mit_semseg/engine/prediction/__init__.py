"""The parts of a prediction: what is asked for, the plan of it, and the outputs of images and videos."""
