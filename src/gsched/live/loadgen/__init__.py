"""A load generator that sends prioritised requests to a scheduler."""
