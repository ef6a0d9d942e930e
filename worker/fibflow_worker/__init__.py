"""The worker program: it claims tasks, runs their handlers and settles them."""
