"""The magics that look at sessions and manage them."""
