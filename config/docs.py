"""Print docs/configuration.md: `python -m config.docs > docs/configuration.md`."""

from __future__ import annotations

from config.changes import live_names
from config.fields import Setting, all_settings, groups
from config.load import presets
from config.options import SHORT

INTRO = """\
# Configuration

<!-- Made by `python -m config.docs > docs/configuration.md` from config/settings. -->

Every setting has one name, its key, and can be given in each of these places; one further down
wins over one further up:

1. its default, below
2. a preset: `--preset NAME`
3. the run that is resumed: `--resume DIR`, with the settings in `DIR/config.toml`
4. a file: `--config FILE`
5. the environment: `UNDERSTUDY_SERVER__PORT=7000`
6. the command line: `--server.port 7000`

```toml
[server]
port = 7000
settings = {{ level = 3 }}

[expert.ratio]
start = 0.3
```

- On the command line and in the environment, lists and tables are written as TOML or JSON:
  `--learner.hidden '[256, 256]'`, `--reward.weights '{{score = 0.01}}'`.
- A switch is `--trainer.enabled` or `--no-trainer.enabled`; in the environment `true` or `false`.
- `none` is no value, wherever the table says that it is possible.
- A table such as `reward.weights` is one setting: the place that wins replaces it whole.
- A setting that is marked *live* can be changed while the run runs, with `understudy set`, in the
  terminal or in the dashboard: {live}.
- An unknown key or a value that does not fit stops the start with a message and exit code 2.

`understudy config show` prints the effective values and where each came from; with `--toml`
as a file for `--config`. Each run keeps its own in `config.toml`. Secrets are never shown or saved.
Some settings let others in; a run does not save these either, and `--resume` needs them again, in a
file, the environment or the command line: {unsaved}.
"""


def consents() -> list[str]:
    """Keys of the settings that let others in: each start is told anew."""
    return [key for key, one in all_settings().items() if not (one.saved or one.secret)]


def page() -> str:
    """The whole page."""
    short = ", ".join(f"`--{word}` is `--{key}`" for word, key in SHORT.items())
    parts = [
        INTRO.format(
            live=", ".join(f"`{name}`" for name in live_names()),
            unsaved=", ".join(f"`{name}`" for name in consents()),
        ),
        f"Short forms: {short}.\n",
    ]
    for name, about in groups().items():
        rows = [
            _row(setting) for key, setting in all_settings().items() if key.startswith(name + ".")
        ]
        parts.append(f"## {name}\n\n{about}\n\n{HEAD}" + "".join(rows))
    parts.append("## Presets\n\nDifferences from the defaults, each with its reason.\n")
    parts += [f"### {name}\n\n```toml\n{text}```\n" for name, text in presets().items()]
    return "\n".join(parts)


HEAD = "| key | default | unit | expected | live | what it is |\n|---|---|---|---|---|---|\n"


def _row(setting: Setting) -> str:
    cells = (
        f"`{setting.key}`",
        f"`{setting.show(setting.default)}`",
        setting.unit,
        setting.expected,
        "live" if setting.live else "",
        # A word in angle brackets would be taken for HTML.
        setting.description.replace("<", "\\<"),
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(page(), end="")
