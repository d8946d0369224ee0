"""The data pipeline from lists and files to tensors: records, schedule, images, labels, class tables."""
