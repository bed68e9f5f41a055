"""Experiments as data, runs as records, claims as tests: the edge around the `mbpo` core.

    words, toys    how numbers and tasks are said; tasks whose optimum is known
    records        one run as a value, its key, and what remains of it when it is finished
    drawing        how pictures, tables and pages are made; knows no claim
    suite          what is asked: tasks, methods, protocols, claims, studies as YAML, and the runs that they need
    running        trains, fits and probes what is missing, sharing the work with other processes
    judging        from records to verdicts
    diagnosis      what of a task foretells trouble
    speed          what a step costs
    studies        a folder a study: what it measures, its pictures, its sentences
    report         the pages, and what is still lacking
    cli            `python -m benchmark run | status | report`

From the bottom to the top: a room imports from those above it in this list alone.

Nothing in this package imports torch before a run begins: pytest workers choose their GPU and threads first.
"""
