"""Metrics, one file per kind; conf/metric has names and values. See `realsr.evaluation.metric`."""
