"""A turn in a cell: its events, what they look like, who answers questions."""
