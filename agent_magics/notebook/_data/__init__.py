"""What goes to the agent from the notebook, and what comes back as Python objects."""
