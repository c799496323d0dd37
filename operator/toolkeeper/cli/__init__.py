"""What people type.

Lives here: one module per command, output formats, exit codes. Imports are lazy: `--help` must be quick.
Never here: anything that another program than the command line needs.
"""
