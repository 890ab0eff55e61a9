"""The built-in sample: a drawn sports shop, indexed, served and asked."""
