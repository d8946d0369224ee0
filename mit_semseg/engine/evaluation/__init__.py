"""The parts of an evaluation: batches, results on single images, their tally, the files of the scores."""
