"""The options of each command and what it prints; what it does stands in the modules it calls.

Each command imports what it needs when it is called, so that `--help` is quick, and checks all that
it can before a backend or a kernel is started.
"""
