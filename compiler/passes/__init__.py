"""Rewrites of graphs, one a file; :mod:`spikec.compiler.passes.pipeline` lists them in order."""
