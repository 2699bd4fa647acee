"""Run as a program: dot text on stdin, the picture on stdout, laid out by the Graphviz that pygraphviz's wheel carries.

Arguments: the format, and Graphviz's name of the layout. Several graphs, parted by NUL, give pictures one after the
other.
"""

import sys


def main() -> None:
    try:
        import pygraphviz
    except ImportError as error:
        sys.exit(f"Graphviz is missing: no `dot` on PATH, and pygraphviz cannot be imported ({error})")
    form, layout = sys.argv[1:]
    for text in sys.stdin.buffer.read().decode().split("\0"):
        sys.stdout.buffer.write(pygraphviz.AGraph(string=text).draw(format=form, prog=layout))


if __name__ == "__main__":
    main()
