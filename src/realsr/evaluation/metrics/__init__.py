"""Metrics: a file for each kind. conf/metric names them with their values; see `realsr.evaluation.metric`."""
