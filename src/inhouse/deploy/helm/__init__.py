"""The same objects as a Helm chart: what people change is a value, everything else stays as it was rendered.

`chart.py` makes the files and has the table of places; `places.py` and `places_more.py` say where values stand in the
objects, `knobs.py` what a value is, `marks.py` how it is written there. Not here: any object of its own but
those that `helm test` runs.
"""
