"""The live demo: what is chosen, what is done, what is shown, each in a module of its own.

state.py      everything chosen, as one value
mix.py        what is composed, a part of it
contrasts.py  what a vector is made of, and swept on
work.py       state -> vector, sweep, texts: plain functions
properties.py a part of a mix -> what it adds; limits.py: how strong it may be
composing.py  a mix -> a text of several properties, its figure, its code
making.py     what was made last, step by step; shelf.py: where its sweeps lie
worker.py     one thread, the latest task wins
tasks.py      what it is asked to do, and what makes room for what
session.py    what a reader does, without widgets
zones.py      green, amber, red
page.py       texts and zones as HTML
code.py       a state as Python
controls.py, slider.py, texts.py, plots.py (chart.py), clipboard.py    the widgets;
              layout.py: where they stand; scripts.py: what runs in the page
composing_tab.py    those of the tab of compositions
app.py        all of them as the face of a session; cell.py: of which cell, quiet.py: no bars
showing.py    a session as output without widgets
serve.py      the same as a page without code
"""
