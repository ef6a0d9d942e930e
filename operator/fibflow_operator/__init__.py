"""The operator program: it syncs Kubernetes resources into the database, keeps workers as pods, and recovers what a pod leaves.

`program` puts it together; `leading` is what it does while it leads. docs/architecture.md draws the rest.
"""
