"""The core of Crossfade: it knows no prompt, no SQL and no command line, and asks the outside through ports."""
