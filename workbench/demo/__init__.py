"""The live demo: what is chosen, what is done, what is shown, each in a module of its own.

state.py    everything chosen, as one value
work.py     state -> vector, sweep, texts: plain functions
worker.py   one thread, the latest task wins
zones.py    green, amber, red
page.py     texts and zones as HTML
code.py     a state as Python
controls.py, panel.py, app.py    the widgets
"""
