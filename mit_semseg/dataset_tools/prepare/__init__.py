"""``mit-semseg data prepare``: lists, 8-bit labels and class tables from datasets as people have them."""
