"""`workbench run`: train interventions, write texts under them and measure losses, by one command.

    options.py          what is asked for, checked
    hyperparameters.py  YAML files with the reference's keys (known_keys.py), and what they mean
    data.py             which tables belong to a data set
    layouts.py          where everything lies: this package's folders, or EasyEdit's
    jobs.py             the pieces of work, and which of them are done, missing or impossible
    records.py          what was done, beside the files that it made; locks.py: by one process
    making.py  writing.py  losing.py  exporting.py    one kind of job each
    runner.py           all of it in order, with one model; merging.py: the parts of a cluster

`workbench compose` and `eval_all` (composing.py, evaluating.py) remake another study:
workbench/composition/study.py. devices.py is theirs.

The reference is the runner of "Why Steering Works" (arXiv 2602.02343) in EasyEdit.
"""
