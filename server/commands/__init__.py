"""The commands of `understudy`, a module each."""
