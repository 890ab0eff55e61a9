"""Pictures fetched by URL, from allowed hosts only."""
