"""The worker program: it claims tasks, runs their handlers and settles them. runtime.py tells its life from start to end."""
