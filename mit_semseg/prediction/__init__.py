"""The work of `test.py`: predictions for images, videos and cameras, as pictures, label files and a page."""
