"""Makes what Prometheus, Alertmanager and Grafana read, and the documents about it, out of one description.

`python -m monitoring` writes the files, `python -m monitoring --check` says which of them are not what it would write. No running
process imports this package.
"""
