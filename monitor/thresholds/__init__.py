"""Thresholds: the nu-quantile rule, drift, fault-safe re-estimation, and what persons decide."""
