"""All that is said to Kubernetes, but for the watch: `api` carries calls, the others say what they are about."""
