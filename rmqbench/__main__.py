"""``python -m rmqbench`` is ``rmqbench``."""

from rmqbench.cli import main

if __name__ == "__main__":
    main()
