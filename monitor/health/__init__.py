"""How the daemon watches itself: pages, metrics, MONITOR_HEALTH alerts, and a watchdog on its loop.

Wall time is allowed here; nothing of it reaches the fold.
"""
