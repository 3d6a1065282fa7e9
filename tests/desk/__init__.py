"""Measure an agent's day at the desk, in a browser.

``python -m tests.desk [--rounds N] [--record FILE]`` makes a test database on the server that DATABASE_URL names, fills
it with 53,000 refills, starts the real server on it, does each task as an expert would, and drops the database. It
prints a table, and writes the figures to FILE as JSON if told to. It takes about MINUTES minutes.

- ``ways.py`` has the fastest way for each task on the desk's pages as they are. Change it together with the pages.
- ``before.json`` has the figures of the desk's first edition, as ``--record`` wrote them at the commit that it names.
  Those pages are gone, so the file stays as it is. The table shows its figures beside today's.
- ``hand.py`` has the model of the hand, the keystroke-level model of Card, Moran and Newell (1980).
- ``tasks.py`` names the tasks, and says how often a day of 300 refills has each.

Two times are given for each task. The time of the hand is the sum of the model's operators for what the script clicks
and types: it does not depend on the machine. The time of the machine is what the agent waits for the server and the
browser. What they do while the hand is busy costs nothing: the desk loads the next refill ahead.
"""
