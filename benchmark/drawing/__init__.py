"""The kit of every page: style, marks, tables as files, templates. It knows no claim."""
