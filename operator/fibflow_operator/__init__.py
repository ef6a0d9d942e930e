"""The operator program: it syncs Kubernetes resources into the database. Its parts arrive with the cluster."""
