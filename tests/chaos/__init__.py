"""Chaos: writers, carriers and an operator at work while everything around them dies, and a checker afterwards.

``python -m chaos --faults 1000 --seed 7`` (from ``tests``) is the long form; ``test_chaos.py`` the short one.
"""
