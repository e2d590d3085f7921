"""`salt-exporter watch`: the message path and the events on the bus, live in a terminal.

source.py watches the master and hands events over (tape.py), passed.py and detail.py put them into words, filters.py
and history.py choose those to be seen (all pure), the rest draws. Nothing else in the package imports this room but the
command itself: it takes Textual, which the daemon has no use for.
"""
