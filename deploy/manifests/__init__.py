"""How the Kubernetes files are made from the code and checked: `python -m deploy.manifests generate|check`."""
