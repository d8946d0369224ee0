"""From lists and image files to tensors: records, schedule, geometry, images, class tables."""
