"""The demo: a simulated polymerisation plant, watched by the very monitor that watches a real one.

    performance -> training -> feed (memory or a broker) -> engine -> board -> view, and the closing table

Nothing here knows how the monitor decides, and the monitor knows nothing of what was planted.
"""
