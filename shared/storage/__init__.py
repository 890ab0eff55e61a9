"""Files that survive a crash, arrays, URL templates, and buckets (a folder, S3)."""
