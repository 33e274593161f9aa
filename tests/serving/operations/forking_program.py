"""The jobs of tests: each is lines of Python."""


def run(job, parent):
    exec(job, {"parent": parent})
    return 0
