"""The scenarios as tests that ship with the package: ``pytest --pyargs rmqbench.suite``.

Select them by marker: ``-m reliability`` or ``-m stress``.
"""
