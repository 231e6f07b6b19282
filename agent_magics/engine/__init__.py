"""The embedded agent server: HTTP app, turn loop, models, tools, permissions and store."""
