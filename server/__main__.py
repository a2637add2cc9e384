"""`python -m server …` is `understudy …`."""

from server.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
