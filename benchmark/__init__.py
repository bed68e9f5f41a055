"""Experiments as data, runs as records, claims as tests: the edge around the `mbpo` core.

    suite/*.yaml   tasks, methods, protocols, claims: every experiment on four pages, read by `pages`
    spec           one run as a value, its key, and the lockstep job it belongs to
    store          records of finished runs
    runner         trains what is missing, sharing the work with other processes
    __main__       `python -m benchmark run | status | report`

Nothing in this package imports torch before a run begins: pytest workers choose their GPU and threads first.
"""
