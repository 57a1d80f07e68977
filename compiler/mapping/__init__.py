"""Where neurons go: cores within a target's limits, and what they will cost there.

Mapping changes no weight and no spike. :func:`~spikec.compiler.mapping.mapper.map_program` records
in the program on which core each neuron is; ``activity.py`` and ``estimate.py`` say what a run
does to the cores.
"""
